package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sluicelb/sluice/cache/record"
)

// retryAfter is for how long a source that failed is not asked again for a key of which something is known.
const retryAfter = 500 * time.Millisecond

var errClosed = errors.New("the cache is closed")

// load walks L2 and L3 for key, once for all who ask at the same time. It goes on when they give up. What it brings
// is the best entry that is known, or nil, and the error that kept it from a better one.
func (n *Namespace[V]) load(key string) <-chan singleflight.Result {
	return n.loads.DoChan(key, func() (any, error) {
		n.loading.RLock()
		defer n.loading.RUnlock()
		if n.closed {
			return (*entry[V])(nil), errClosed
		}
		ctx, cancel := context.WithTimeout(n.life, n.o.LoadTimeout)
		defer cancel()
		return n.walk(ctx, key)
	})
}

// walk must not be told what its readers found in L1: that may have been invalidated since.
func (n *Namespace[V]) walk(ctx context.Context, key string) (*entry[V], error) {
	generation := n.l1.Generation(key)
	known, _ := n.l1.Get(key)
	if shared := n.fromShared(ctx, key); shared != nil {
		if known == nil || shared.stored.After(known.stored) {
			if n.usable(shared) > n.usable(known) {
				n.l1.Fill(key, shared, generation)
				return shared, nil
			}
			known = shared
		}
	}
	next, err := n.fromSource(ctx, key, known)
	if next != nil {
		n.l1.Fill(key, next, generation)
	}
	if err == nil {
		n.toShared(ctx, key, next)
	}
	return next, err
}

// fromSource asks L3. When that fails the entry is the one that is known, if any, with a note not to ask again soon.
func (n *Namespace[V]) fromSource(ctx context.Context, key string, known *entry[V]) (*entry[V], error) {
	tag := ""
	if known != nil && !known.absent {
		tag = known.tag
	}
	next := &entry[V]{stored: n.o.Now()} // what comes is at least as new
	n.stats.loads.Add(1)
	loaded, err := n.ask(ctx, key, tag)
	switch {
	case err == nil:
		next.value, next.version, next.tag, next.fresh = loaded.Value, loaded.Version, loaded.Tag, loaded.Fresh
		if next.size, err = n.size(loaded.Value); err != nil {
			return known, err
		}
	case errors.Is(err, ErrNotModified) && tag != "":
		stored := next.stored
		*next = *known
		next.stored, next.fresh, next.cause = stored, loaded.Fresh, nil
		return next.freshFor(n.o.TTL), nil
	case errors.Is(err, ErrNotFound):
		next.absent, next.fresh = true, jittered(n.o.NegativeTTL)
	default:
		n.stats.failures.Add(1)
		if known == nil {
			return nil, err
		}
		*next = *known
		next.cause, next.retry = err, n.o.Now().Add(retryAfter)
		return next, err
	}
	if next.version == 0 {
		next.version = uint64(next.stored.UnixNano())
	}
	return next.freshFor(n.o.TTL), nil
}

// freshFor fills in for how long e is fresh, where the source did not say.
func (e *entry[V]) freshFor(ttl time.Duration) *entry[V] {
	if e.fresh == 0 {
		e.fresh = jittered(ttl)
	}
	return e
}

// ask calls the loader, whose panics become errors: they would end the process.
func (n *Namespace[V]) ask(ctx context.Context, key, tag string) (loaded Loaded[V], err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("the loader of %s panicked: %v", n.o.Name, trouble)
		}
	}()
	return n.o.Loader.Load(ctx, key, tag)
}

// size returns what a value holds, bytes.
func (n *Namespace[V]) size(value V) (int, error) {
	if n.o.Size != nil {
		return n.o.Size(value), nil
	}
	if b, ok := any(value).([]byte); ok {
		return len(b), nil
	}
	payload, err := n.o.Codec.Encode(value)
	return len(payload), err
}

// sharedKey is the name of a key in L2.
func (n *Namespace[V]) sharedKey(key string) string { return n.o.Name + "/" + key }

// fromShared returns what L2 has, or nil. What cannot be read is as good as nothing there.
func (n *Namespace[V]) fromShared(ctx context.Context, key string) *entry[V] {
	if n.o.L2 == nil {
		return nil
	}
	data, err := n.o.L2.Get(ctx, n.sharedKey(key))
	if err != nil {
		n.stats.l2Errors.Add(1)
		return nil
	}
	if data == nil {
		n.stats.l2Misses.Add(1)
		return nil
	}
	e, err := n.open(key, data)
	switch {
	case errors.Is(err, record.ErrNewer):
		n.stats.newer.Add(1)
		return nil
	case err != nil:
		n.stats.corrupt.Add(1)
		return nil
	}
	n.stats.l2Hits.Add(1)
	return e
}

func (n *Namespace[V]) open(key string, data []byte) (*entry[V], error) {
	r, err := n.format.Open(n.sharedKey(key), data)
	if err != nil {
		return nil, err
	}
	e := &entry[V]{version: r.Version, stored: r.Stored, fresh: r.Fresh, tag: r.Tag, absent: r.Absent}
	if r.Absent {
		return e, nil
	}
	if e.value, err = n.o.Codec.Decode(r.Payload); err != nil {
		return nil, err
	}
	e.size, err = n.size(e.value)
	return e, err
}

// toShared stores e in L2, which may fail: another load will try again.
func (n *Namespace[V]) toShared(ctx context.Context, key string, e *entry[V]) {
	if n.o.L2 == nil {
		return
	}
	r := record.Record{Version: e.version, Stored: e.stored, Fresh: e.fresh, Tag: e.tag, Absent: e.absent}
	var err error
	if !e.absent {
		r.Payload, err = n.o.Codec.Encode(e.value)
	}
	var data []byte
	if err == nil {
		data, err = n.format.Seal(n.sharedKey(key), r)
	}
	if err == nil {
		err = n.o.L2.Put(ctx, n.sharedKey(key), e.stored, data, e.fresh+n.o.StaleBound)
	}
	if err != nil {
		n.stats.l2Errors.Add(1)
	}
}

// Invalidate forgets key in L1 and L2. After it returned nil no reader gets what the source had before the call. With
// an error L2 could not be told: this process asks the source, others may see the old value until that is not fresh any more.
func (n *Namespace[V]) Invalidate(ctx context.Context, key string) error {
	var err error
	if n.o.L2 != nil { // first: a load must not bring its old value back
		if err = n.o.L2.Invalidate(ctx, n.sharedKey(key), n.o.Now(), n.o.LoadTimeout); err != nil {
			n.stats.l2Errors.Add(1)
			err = fmt.Errorf("invalidating %s in L2: %w", n.sharedKey(key), err)
		}
	}
	n.l1.Invalidate(key)
	n.loads.Forget(key) // who asks from now on does not join a load from before
	return err
}
