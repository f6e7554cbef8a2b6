// Package l1 is the first tier of the cache: values in this process, bounded in bytes, that one of several engines
// keeps. It knows neither loaders nor expiry; package cache does.
package l1

import (
	"fmt"
	"hash/maphash"
	"sync"
)

// Engine decides what stays. A Set is seen by every Get that begins after it returned, unless the engine did not
// keep the value or gave it up; after Delete no Get sees what was set before. Safe for concurrent use, but for Set and Delete of the
// same key, which must not run at the same time.
type Engine[V any] interface {
	Get(key string) (V, bool)
	Set(key string, value V)
	Delete(key string)
	Clear()
	Bytes() uint64     // what the entries weigh, nearly
	Evictions() uint64 // entries that were given up for lack of room
	Close()
}

// Name is the name of an engine.
type Name string

// The engines.
const (
	Otter     Name = "otter"     // W-TinyLFU that adapts its window
	Ristretto Name = "ristretto" // sampled LFU with TinyLFU admission

	Default = Otter // wins on the committed traces, see docs/cache.md
)

// Names returns the names of all engines.
func Names() []Name { return []Name{Otter, Ristretto} }

// Options say what a Cache is like.
type Options[V any] struct {
	Engine   Name   // "" is Default
	Capacity uint64 // weight that it holds at most, bytes
	Items    int    // entries that are expected when it is full; 0 is Capacity / 512

	// Weigh says what an entry weighs, bytes; nil counts entries. It must not use the cache.
	Weigh func(key string, value V) uint32
}

// meanEntry is what an entry is thought to weigh when nobody says, bytes.
const meanEntry = 512

// NewEngine returns an engine for what o says.
func NewEngine[V any](o Options[V]) (Engine[V], error) {
	if o.Capacity == 0 {
		return nil, fmt.Errorf("the capacity of an L1 is 0: give it the bytes that it may hold")
	}
	if o.Weigh == nil {
		o.Weigh = func(string, V) uint32 { return 1 }
	}
	if o.Items <= 0 {
		o.Items = max(int(o.Capacity/meanEntry), 1)
	}
	switch o.Engine {
	case Otter, "":
		return newOtter(o)
	case Ristretto:
		return newRistretto(o)
	default:
		return nil, fmt.Errorf("the L1 engine %q is not known (known: %s, %s)", o.Engine, Otter, Ristretto)
	}
}

// stripes is the number of locks and generations that keys share: two keys of one stripe cost a load that need not
// have been dropped, now and then, or a short wait.
const stripes = 1024

// Cache is an engine whose loads cannot undo what happened while they were under way. Safe for concurrent use.
type Cache[V any] struct {
	engine  Engine[V]
	seed    maphash.Seed
	stripes [stripes]stripe
}

type stripe struct {
	sync.Mutex
	generation uint64 // counts what made loads of its keys late
	_          [48]byte
}

// New returns an empty cache. Close ends its goroutines.
func New[V any](o Options[V]) (*Cache[V], error) {
	engine, err := NewEngine(o)
	if err != nil {
		return nil, err
	}
	return &Cache[V]{engine: engine, seed: maphash.MakeSeed()}, nil
}

func (c *Cache[V]) stripe(key string) *stripe {
	return &c.stripes[maphash.String(c.seed, key)%stripes]
}

// Get returns the value of key.
func (c *Cache[V]) Get(key string) (V, bool) { return c.engine.Get(key) }

// Generation is what a load must ask for before it begins, and give to Fill.
func (c *Cache[V]) Generation(key string) uint64 {
	s := c.stripe(key)
	s.Lock()
	defer s.Unlock()
	return s.generation
}

// Fill stores what a load brought, unless key was put or invalidated since the generation. It returns whether it
// was in time.
func (c *Cache[V]) Fill(key string, value V, generation uint64) bool {
	s := c.stripe(key)
	s.Lock()
	defer s.Unlock()
	if s.generation != generation {
		return false
	}
	c.engine.Set(key, value)
	return true
}

// Put stores a value that is newer than what any load under way will bring.
func (c *Cache[V]) Put(key string, value V) {
	s := c.stripe(key)
	s.Lock()
	defer s.Unlock()
	s.generation++
	c.engine.Set(key, value)
}

// Update replaces the value of key by what replace returns, or leaves it when that is false. What replace is
// given is absent when found is false. Loads under way are late only if it was replaced.
func (c *Cache[V]) Update(key string, replace func(old V, found bool) (V, bool)) bool {
	s := c.stripe(key)
	s.Lock()
	defer s.Unlock()
	value, ok := replace(c.engine.Get(key))
	if ok {
		s.generation++
		c.engine.Set(key, value)
	}
	return ok
}

// Invalidate forgets the value of key, and what a load under way will bring.
func (c *Cache[V]) Invalidate(key string) {
	s := c.stripe(key)
	s.Lock()
	defer s.Unlock()
	s.generation++
	c.engine.Delete(key)
}

// InvalidateAll forgets every value, and what loads under way will bring.
func (c *Cache[V]) InvalidateAll() {
	for i := range c.stripes {
		c.stripes[i].Lock()
		defer c.stripes[i].Unlock()
		c.stripes[i].generation++
	}
	c.engine.Clear()
}

// Bytes returns what the entries weigh, nearly: engines count a little late.
func (c *Cache[V]) Bytes() uint64 { return c.engine.Bytes() }

// Evictions returns how many entries were given up for lack of room.
func (c *Cache[V]) Evictions() uint64 { return c.engine.Evictions() }

// Close ends the engine's goroutines; the cache must not be used any more.
func (c *Cache[V]) Close() { c.engine.Close() }
