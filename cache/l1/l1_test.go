package l1

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

// eachEngine runs f with a cache of each engine that holds so many entries, or bytes when weigh says so.
func eachEngine[V any](t *testing.T, capacity uint64, weigh func(string, V) uint32, f func(*testing.T, *Cache[V])) {
	for _, name := range Names() {
		t.Run(string(name), func(t *testing.T) {
			c, err := New(Options[V]{Engine: name, Capacity: capacity, Items: 1000, Weigh: weigh})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			f(t, c)
		})
	}
}

func expect[V comparable](t *testing.T, c *Cache[V], key string, want V, found bool) {
	t.Helper()
	if got, ok := c.Get(key); got != want || ok != found {
		t.Fatalf("got %v (%v) for %s, not %v (%v)", got, ok, key, want, found)
	}
}

func TestCache(t *testing.T) {
	eachEngine(t, 1000, nil, func(t *testing.T, c *Cache[int]) {
		expect(t, c, "a", 0, false)
		c.Put("a", 1)
		expect(t, c, "a", 1, true)
		c.Put("a", 2)
		expect(t, c, "a", 2, true)
		c.Invalidate("a")
		expect(t, c, "a", 0, false)
		c.Put("a", 3)
		c.Put("b", 4)
		c.InvalidateAll()
		expect(t, c, "a", 0, false)
		expect(t, c, "b", 0, false)
		c.Put("a", 5)
		expect(t, c, "a", 5, true)
	})
}

// A load that began before a put or an invalidation brings nothing into the cache.
func TestLateLoad(t *testing.T) {
	eachEngine(t, 1000, nil, func(t *testing.T, c *Cache[int]) {
		g := c.Generation("a")
		if !c.Fill("a", 1, g) {
			t.Fatal("a load in time was not taken")
		}
		if !c.Fill("a", 2, g) {
			t.Fatal("a second load in time was not taken")
		}
		expect(t, c, "a", 2, true)
		for name, happen := range map[string]func(){
			"put":           func() { c.Put("a", 3) },
			"update":        func() { c.Update("a", func(int, bool) (int, bool) { return 3, true }) },
			"invalidate":    func() { c.Invalidate("a") },
			"invalidateAll": c.InvalidateAll,
		} {
			g := c.Generation("a")
			happen()
			before, found := c.Get("a")
			if c.Fill("a", 4, g) {
				t.Errorf("%s: a late load was taken", name)
			}
			expect(t, c, "a", before, found)
		}
		g = c.Generation("a")
		if c.Update("a", func(int, bool) (int, bool) { return 5, false }) || !c.Fill("a", 6, g) {
			t.Error("an update that changed nothing made a load late")
		}
		expect(t, c, "a", 6, true)
	})
}

// After an invalidation returned no reader sees a value from before it, whatever loads are under way. Values count
// the invalidations that had ended when their load began.
func TestNothingOlderThanInvalidation(t *testing.T) {
	const keys = 8
	eachEngine(t, 4, nil, func(t *testing.T, c *Cache[int64]) {
		var current [keys]struct {
			sync.Mutex
			version, known int64 // in the source, and invalidated
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 1))
				for range 20000 {
					n := random.IntN(keys)
					key, s := strconv.Itoa(n), &current[n]
					switch random.IntN(4) {
					case 0: // change
						s.Lock()
						s.version++
						version := s.version
						s.Unlock()
						c.Invalidate(key)
						s.Lock()
						s.known = max(s.known, version)
						s.Unlock()
					default:
						s.Lock()
						known := s.known
						s.Unlock()
						if got, ok := c.Get(key); ok && got < known {
							t.Errorf("got version %d of %s after %d was invalidated", got, key, known)
							return
						} else if !ok {
							g := c.Generation(key)
							s.Lock()
							version := s.version
							s.Unlock()
							c.Fill(key, version, g)
						}
					}
				}
			})
		}
		wg.Wait()
	})
}

// The weight of what is held stays within the capacity, and what does not fit is not kept.
func TestCapacity(t *testing.T) {
	const capacity = 100_000
	weigh := func(key string, value []byte) uint32 { return uint32(len(key) + len(value)) }
	eachEngine(t, capacity, weigh, func(t *testing.T, c *Cache[[]byte]) {
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 5000 {
			c.Put(strconv.Itoa(random.IntN(2000)), make([]byte, 1+i%700))
		}
		c.Put("too large", make([]byte, 2*capacity))
		held := func() (bytes uint64) {
			for i := range 2000 {
				if value, ok := c.Get(strconv.Itoa(i)); ok {
					bytes += uint64(weigh(strconv.Itoa(i), value))
				}
			}
			return bytes
		}
		within := func() bool {
			_, tooLarge := c.Get("too large")
			return !tooLarge && held() <= capacity && c.Bytes() <= capacity
		}
		for deadline := time.Now().Add(10 * time.Second); !within(); time.Sleep(time.Millisecond) { // otter evicts in the background
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes are held, %d by the engine's count, of %d", held(), c.Bytes(), capacity)
			}
		}
		if held() < capacity/2 {
			t.Errorf("only %d bytes are held, of %d", held(), capacity)
		}
		if c.Evictions() == 0 {
			t.Error("no eviction was counted")
		}
	})
}

func TestOptionsWrong(t *testing.T) {
	for _, o := range []Options[int]{{}, {Engine: "arc", Capacity: 1}, {Engine: Ristretto, Capacity: 1 << 63}} {
		if c, err := New(o); err == nil {
			c.Close()
			t.Errorf("%v was taken", o)
		} else {
			t.Log(err)
		}
	}
}

func benchmarkEngines(b *testing.B, f func(*testing.B, *Cache[[]byte], []string)) {
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprintf("backend/192.0.2.%d", i)
	}
	for _, name := range Names() {
		b.Run(string(name), func(b *testing.B) {
			c, err := New(Options[[]byte]{Engine: name, Capacity: 4 << 16, Items: 1 << 16})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			for _, key := range keys {
				c.Put(key, []byte(key))
			}
			b.ReportAllocs()
			b.ResetTimer()
			f(b, c, keys)
		})
	}
}

func BenchmarkGetHot(b *testing.B) {
	benchmarkEngines(b, func(b *testing.B, c *Cache[[]byte], keys []string) {
		for b.Loop() {
			c.Get(keys[0])
		}
	})
}

func BenchmarkGetHotParallel(b *testing.B) {
	benchmarkEngines(b, func(b *testing.B, c *Cache[[]byte], keys []string) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Get(keys[0])
			}
		})
	})
}

func BenchmarkGetSpread(b *testing.B) {
	benchmarkEngines(b, func(b *testing.B, c *Cache[[]byte], keys []string) {
		for i := 0; b.Loop(); i++ {
			c.Get(keys[i&(len(keys)-1)])
		}
	})
}

func BenchmarkPut(b *testing.B) {
	benchmarkEngines(b, func(b *testing.B, c *Cache[[]byte], keys []string) {
		for i := 0; b.Loop(); i++ {
			c.Put(keys[i&(len(keys)-1)], nil)
		}
	})
}
