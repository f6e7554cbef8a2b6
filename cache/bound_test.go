package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// history is a source whose values are versions, and which knows when each was the latest.
type history struct {
	clock *clock
	down  atomic.Bool
	keys  [8]struct {
		sync.Mutex
		changed     []int64 // when version i became the latest, ns
		invalidated int     // a version that every read that begins must know
	}
}

func (h *history) Load(_ context.Context, key, _ string) (Loaded[int], error) {
	if h.down.Load() {
		return Loaded[int]{}, errDown
	}
	n, _ := strconv.Atoi(key)
	k := &h.keys[n]
	k.Lock()
	defer k.Unlock()
	return Loaded[int]{Value: len(k.changed) - 1}, nil
}

func (h *history) change(n int) (version int) {
	k := &h.keys[n]
	k.Lock()
	defer k.Unlock()
	k.changed = append(k.changed, h.clock.now().UnixNano())
	return len(k.changed) - 1
}

// Readers of several processes that share an L2, at random, among changes, invalidations and failures of the source: nobody gets
// a value that ceased to be the latest longer ago than TTL and bound together without being told, nor what was
// invalidated in his process, the first one, before he asked.
func TestBound(t *testing.T) {
	each(t, func(t *testing.T, o Options[string]) {
		h := &history{clock: newClock()}
		for n := range h.keys {
			h.change(n)
		}
		shared := Options[int]{Name: "test", Loader: h, Engine: o.Engine, Capacity: 2000, TTL: time.Second, StaleBound: time.Second, Now: h.clock.now}
		if o.L2 != nil {
			shared.L2 = newL2(t, h.clock.now)
		}
		var spaces [3]*Namespace[int]
		for i := range spaces {
			var err error
			if spaces[i], err = New(shared); err != nil {
				t.Fatal(err)
			}
			defer spaces[i].Close()
		}
		var told, got atomic.Int64
		var wg sync.WaitGroup
		for worker := range 6 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 7))
				for range 3000 {
					n, space := random.IntN(len(h.keys)), spaces[random.IntN(len(spaces))]
					switch random.IntN(40) {
					case 0:
						h.clock.advance(time.Duration(random.Int64N(int64(time.Second))))
					case 1:
						h.down.Store(random.IntN(3) == 0)
					case 2:
						h.change(n)
					case 3:
						version := h.change(n)
						h.clock.advance(1)
						if err := spaces[0].Invalidate(t.Context(), strconv.Itoa(n)); err != nil {
							t.Error(err)
						}
						h.clock.advance(1)
						k := &h.keys[n]
						k.Lock()
						k.invalidated = max(k.invalidated, version)
						k.Unlock()
					default:
						h.read(t, space, n, space == spaces[0], &told, &got)
					}
				}
			})
		}
		wg.Wait()
		t.Logf("%d values, %d readers were told that theirs is too old", got.Load(), told.Load())
		if got.Load() == 0 || told.Load() == 0 {
			t.Error("the test saw nothing")
		}
	})
}

// read checks what a reader gets. The clock goes on while he waits: what he gets is judged by when he asked.
func (h *history) read(t *testing.T, space *Namespace[int], n int, invalidated bool, told, got *atomic.Int64) {
	k := &h.keys[n]
	k.Lock()
	known, asked := k.invalidated, h.clock.now().UnixNano()
	k.Unlock()
	r, err := space.Lookup(t.Context(), strconv.Itoa(n))
	switch {
	case errors.As(err, new(*StaleError)):
		told.Add(1)
		return
	case errors.Is(err, errDown):
		return
	case err != nil:
		t.Error(err)
		return
	}
	got.Add(1)
	k.Lock()
	defer k.Unlock()
	if r.Value < len(k.changed)-1 {
		if age := asked - k.changed[r.Value+1]; age >= int64(2*time.Second) {
			t.Errorf("version %d of %d was not the latest any more for %s, and nobody said so", r.Value, n, time.Duration(age))
		}
	}
	if invalidated && r.Value < known {
		t.Errorf("version %d of %d was read after %d was invalidated", r.Value, n, known)
	}
}
