package l1

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// ristrettoEngine waits for each Set: ristretto applies new keys in the background, drops them when it is busy, and
// takes the second of two quick Sets of a new key for a mere update of its cost, so that the older value would stay.
// Waiting lets it also admit by what it has really seen: on the OLTP trace the hit ratio rises by half.
type ristrettoEngine[V any] struct {
	cache   *ristretto.Cache[string, V]
	weigh   func(key string, value V) uint32
	evicted *atomic.Uint64
}

func newRistretto[V any](o Options[V]) (Engine[V], error) {
	if o.Capacity > math.MaxInt64 {
		return nil, fmt.Errorf("the capacity of an L1 of ristretto is %d bytes: %d at most", o.Capacity, int64(math.MaxInt64))
	}
	evicted := new(atomic.Uint64)
	cache, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters: 10 * int64(o.Items), // "we've seen good performance in setting this to 10x the number of items"
		MaxCost:     int64(o.Capacity),
		BufferItems: 64, // as its documentation recommends
		OnEvict:     func(*ristretto.Item[V]) { evicted.Add(1) },

		IgnoreInternalCost: true, // Weigh knows it
	})
	if err != nil {
		return nil, fmt.Errorf("making an L1 of ristretto: %w", err)
	}
	return ristrettoEngine[V]{cache, o.Weigh, evicted}, nil
}

func (e ristrettoEngine[V]) Get(key string) (V, bool) { return e.cache.Get(key) }

func (e ristrettoEngine[V]) Set(key string, value V) {
	if !e.cache.Set(key, value, int64(e.weigh(key, value))) {
		e.cache.Del(key) // its queue was full: better none than an older one
	}
	e.cache.Wait()
}

func (e ristrettoEngine[V]) Delete(key string) {
	e.cache.Del(key)
	e.cache.Wait()
}

func (e ristrettoEngine[V]) Clear() { e.cache.Clear() }

func (e ristrettoEngine[V]) Bytes() uint64 {
	return uint64(e.cache.MaxCost() - e.cache.RemainingCost())
}
func (e ristrettoEngine[V]) Evictions() uint64 { return e.evicted.Load() }
func (e ristrettoEngine[V]) Close()            { e.cache.Close() }
