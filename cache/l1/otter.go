package l1

import (
	"fmt"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

type otterEngine[V any] struct {
	cache   *otter.Cache[string, V]
	evicted *atomic.Uint64
}

func newOtter[V any](o Options[V]) (Engine[V], error) {
	evicted := new(atomic.Uint64)
	cache, err := otter.New(&otter.Options[string, V]{
		MaximumWeight: o.Capacity,
		Weigher:       o.Weigh,
		OnAtomicDeletion: func(e otter.DeletionEvent[string, V]) {
			if e.WasEvicted() {
				evicted.Add(1)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making an L1 of otter: %w", err)
	}
	return otterEngine[V]{cache, evicted}, nil
}

func (e otterEngine[V]) Get(key string) (V, bool) { return e.cache.GetIfPresent(key) }
func (e otterEngine[V]) Set(key string, value V)  { e.cache.Set(key, value) }
func (e otterEngine[V]) Delete(key string)        { e.cache.Invalidate(key) }
func (e otterEngine[V]) Clear()                   { e.cache.InvalidateAll() }
func (e otterEngine[V]) Bytes() uint64            { return e.cache.WeightedSize() }
func (e otterEngine[V]) Evictions() uint64        { return e.evicted.Load() }
func (e otterEngine[V]) Close()                   { e.cache.InvalidateAll(); e.cache.StopAllGoroutines() }
