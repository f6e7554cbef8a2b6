// Package cache keeps values of a slow source close at hand, in tiers: L1 in this process, L2 shared, L3 the source of truth. It can be
// used by itself:
//
//	names, err := cache.New(cache.Options[[]byte]{
//		Name: "names", Capacity: 64 << 20, TTL: time.Minute, Codec: record.Bytes{},
//		Loader: &cache.HTTP[[]byte]{URL: "https://inventory.example/names/", Decode: record.Bytes{}.Decode},
//	})
//	defer names.Close()
//	name, err := names.Get(ctx, "192.0.2.7")
//
// A Namespace holds values of one kind; namespaces share nothing but L2, so that none can crowd out another. A value is
// fresh for the namespace's TTL from the moment the source had it, then stale for the stale bound at most: it is still given
// out at once while a load renews it. After that a reader waits for the source, or is told that it gets an old value (StaleError).
package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sync/singleflight"

	"github.com/sluicelb/sluice/cache/l1"
	"github.com/sluicelb/sluice/cache/record"
)

// Options say what a namespace is like. Name, Capacity and Loader are needed.
type Options[V any] struct {
	Name   string // of the namespace, a prefix of its keys in L2
	Loader Loader[V]

	Engine   l1.Name // of L1; "" is l1.Default
	Capacity uint64  // of L1, bytes
	// Size says how many bytes a value holds beyond itself; nil: what it has encoded, or its length if it is a []byte.
	Size func(V) int

	TTL         time.Duration // for which a value is fresh, 0: a minute; each is fresh for up to a tenth less, so that not all end at once
	NegativeTTL time.Duration // for which it is believed that there is no such key, 0: 5 s
	StaleBound  time.Duration // for which a value that is not fresh any more may be given out, 0: 5 s, negative: never
	LoadTimeout time.Duration // that a load may take, 0: 10 s

	L2         Shared          // nil: there is none
	Codec      record.Codec[V] // nil: MessagePack
	Schema     uint64          // of V in records, see record.MessagePack
	Dictionary []byte          // that records are compressed with, see record.NewFormat

	Now func() time.Time // nil: time.Now
}

// Namespace holds values of one kind. Safe for concurrent use. Values are shared between callers: they must not
// be changed.
type Namespace[V any] struct {
	o      Options[V]
	l1     *l1.Cache[*entry[V]]
	format *record.Format
	loads  singleflight.Group
	stats  counters

	loading sync.RWMutex // held for reading by loads; Close waits for them
	closed  bool
	life    context.Context // of loads
	end     context.CancelFunc
}

// entry is a value in L1. It never changes.
type entry[V any] struct {
	value   V
	size    int // of value, bytes
	version uint64
	stored  time.Time // when the source had it
	fresh   time.Duration
	tag     string
	absent  bool
	cause   error     // why it could not be renewed
	retry   time.Time // when the source may be asked again
}

func (e *entry[V]) mayRetry(now time.Time) bool { return e.cause == nil || !now.Before(e.retry) }

// overhead is what an entry takes beside its key and value, bytes: itself, and a node of the engine with its share of
// the hash table, as BenchmarkMemory confirms.
func overhead[V any]() int { return int(unsafe.Sizeof(entry[V]{})) + 100 }

const (
	defaultTTL         = time.Minute
	defaultNegativeTTL = 5 * time.Second
	defaultStaleBound  = 5 * time.Second // design, section 9
	defaultLoadTimeout = 10 * time.Second

	jitter = 0.1 // share of a TTL that chance may take away
)

// New returns an empty namespace. Close ends its goroutines.
func New[V any](o Options[V]) (*Namespace[V], error) {
	switch {
	case o.Name == "":
		return nil, errors.New("a namespace has no name: give it one")
	case o.Loader == nil:
		return nil, fmt.Errorf("namespace %s has no loader: say where its values come from", o.Name)
	case o.TTL < 0 || o.NegativeTTL < 0 || o.LoadTimeout < 0:
		return nil, fmt.Errorf("namespace %s has a negative TTL or timeout", o.Name)
	}
	o.TTL = cmp.Or(o.TTL, defaultTTL)
	o.NegativeTTL = cmp.Or(o.NegativeTTL, defaultNegativeTTL)
	o.StaleBound = max(cmp.Or(o.StaleBound, defaultStaleBound), 0)
	o.LoadTimeout = cmp.Or(o.LoadTimeout, defaultLoadTimeout)
	if o.Codec == nil {
		o.Codec = record.MessagePack[V]{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Namespace[V]{o: o}
	n.life, n.end = context.WithCancel(context.Background())
	var err error
	if n.format, err = record.NewFormat(o.Schema, o.Dictionary); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", o.Name, err)
	}
	n.l1, err = l1.New(l1.Options[*entry[V]]{
		Engine: o.Engine, Capacity: o.Capacity,
		Weigh: func(key string, e *entry[V]) uint32 { return uint32(len(key) + e.size + overhead[V]()) },
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", o.Name, err)
	}
	return n, nil
}

// Close ends loads, and the goroutines of L1. The namespace must not be read any more. It may be called again.
func (n *Namespace[V]) Close() {
	n.end()
	n.loading.Lock()
	defer n.loading.Unlock()
	if !n.closed {
		n.closed = true
		n.l1.Close()
	}
}

// jittered returns a TTL that chance has shortened a little.
func jittered(ttl time.Duration) time.Duration {
	return ttl - time.Duration(rand.Float64()*jitter*float64(ttl))
}
