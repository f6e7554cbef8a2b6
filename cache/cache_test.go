package cache

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/cache/l1"
	"github.com/sluicelb/sluice/cache/l2"
	"github.com/sluicelb/sluice/cache/record"
)

// clock is a time that tests set.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(1764057600e9)
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// source is an L3 whose answers tests decide.
type source struct {
	sync.Mutex
	values map[string]string
	err    error
	loads  int
	hold   chan struct{} // a load waits until it is closed; nil: it does not
	begun  chan struct{} // gets a value from each load that waits
}

func newSource() *source {
	return &source{values: map[string]string{"a": "one"}, begun: make(chan struct{}, 1000)}
}

// Load reads first and waits then, as what is on its way is old already.
func (s *source) Load(ctx context.Context, key, _ string) (Loaded[string], error) {
	s.Lock()
	s.loads++
	value, ok := s.values[key]
	err, hold := s.err, s.hold
	s.Unlock()
	if hold != nil {
		s.begun <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return Loaded[string]{}, ctx.Err()
		}
	}
	if err == nil && !ok {
		err = ErrNotFound
	}
	return Loaded[string]{Value: value}, err
}

func (s *source) set(key, value string) {
	s.Lock()
	defer s.Unlock()
	s.values[key] = value
}

func (s *source) fail(err error) {
	s.Lock()
	defer s.Unlock()
	s.err = err
}

// holdLoads has loads that begin now wait until release is called.
func (s *source) holdLoads() (release func()) {
	s.Lock()
	defer s.Unlock()
	hold := make(chan struct{})
	s.hold = hold
	return func() {
		s.Lock()
		s.hold = nil
		s.Unlock()
		close(hold)
	}
}

func (s *source) loaded() int {
	s.Lock()
	defer s.Unlock()
	return s.loads
}

// fixture is a namespace of a source, on a clock of its own.
type fixture struct {
	*testing.T
	*clock
	*source
	*Namespace[string]
}

func newFixture(t *testing.T, o Options[string]) *fixture {
	f := &fixture{T: t, clock: newClock(), source: newSource()}
	f.another(o)
	return f
}

// another puts a new namespace in place of the one there is: another process, or the same one later.
func (f *fixture) another(o Options[string]) {
	f.Helper()
	o.Name, o.Capacity, o.Now = "test", 1<<20, f.now
	if o.Loader == nil {
		o.Loader = f.source
	}
	n, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Namespace = n
	f.Cleanup(n.Close)
}

func (f *fixture) expect(key, want string) {
	f.Helper()
	if got, err := f.Get(f.Context(), key); err != nil || got != want {
		f.Fatalf("got %q, %v for %s, not %q", got, err, key, want)
	}
}

func (f *fixture) expectError(key string, want error) {
	f.Helper()
	if got, err := f.Get(f.Context(), key); !errors.Is(err, want) || got != "" {
		f.Fatalf("got %q, %v for %s, not %v", got, err, key, want)
	}
}

func (f *fixture) expectLoads(want int) {
	f.Helper()
	if got := f.loaded(); got != want {
		f.Fatalf("the source was asked %d times, not %d", got, want)
	}
}

// eventually waits for what happens in the background.
func (f *fixture) eventually(what string, happened func() bool) {
	f.Helper()
	for deadline := time.Now().Add(10 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("%s: not within 10 s", what)
		}
	}
}

const ttl = 10 * time.Second // of which chance takes less than the bound adds

// A value is loaded once while it is fresh, given out and renewed while it is stale, and waited for after that.
func TestGet(t *testing.T) {
	f := newFixture(t, Options[string]{TTL: ttl})
	f.expect("a", "one")
	f.expect("a", "one")
	f.expectLoads(1)
	f.set("a", "two")
	f.advance(ttl)
	f.expect("a", "one")
	f.eventually("renewing", func() bool { v, _ := f.Get(t.Context(), "a"); return v == "two" })
	f.expectLoads(2)
	f.set("a", "three")
	f.advance(ttl + defaultStaleBound)
	f.expect("a", "three")
	f.expectLoads(3)
	s := f.Stats()
	if s.Misses != 1 || s.Stale == 0 || s.Expired != 1 || s.Loads != 3 || s.Hits < 2 || s.Bytes == 0 {
		t.Errorf("got %+v", s)
	}
}

// The last moment at which a value is fresh differs, by a tenth of the TTL at most.
func TestJitter(t *testing.T) {
	f := newFixture(t, Options[string]{TTL: ttl})
	seen := make(map[time.Duration]bool)
	for i := range 1000 {
		f.set(fmt.Sprint(i), "value")
		f.expect(fmt.Sprint(i), "value")
		e, _ := f.l1.Get(fmt.Sprint(i))
		if e.fresh > ttl || e.fresh < ttl*9/10 {
			t.Fatalf("a value is fresh for %s", e.fresh)
		}
		seen[e.fresh/(ttl/100)] = true
	}
	if len(seen) < 6 {
		t.Errorf("values are fresh for %v hundredths of the TTL", seen)
	}
}

func TestSingleFlight(t *testing.T) {
	f := newFixture(t, Options[string]{})
	release := f.holdLoads()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { f.expect("a", "one") })
	}
	f.eventually("100 readers", func() bool { return f.Stats().Misses == 100 })
	release()
	wg.Wait()
	f.expectLoads(1)
}

// A reader who comes so late to a load that its value will be too old for him waits for the next one.
func TestSlowLoad(t *testing.T) {
	f := newFixture(t, Options[string]{TTL: ttl})
	release := f.holdLoads()
	var wg sync.WaitGroup
	wg.Go(func() { f.expect("a", "one") })
	<-f.begun
	f.set("a", "two")
	f.advance(ttl + defaultStaleBound)
	wg.Go(func() { f.expect("a", "two") })
	f.eventually("two readers", func() bool { return f.Stats().Misses == 2 })
	release()
	wg.Wait()
	f.expectLoads(2)
}

// A reader who gives up does not take the load from the others.
func TestReaderGivesUp(t *testing.T) {
	f := newFixture(t, Options[string]{})
	release := f.holdLoads()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	release()
	f.expect("a", "one")
	f.expectLoads(1)
}

func TestNotFound(t *testing.T) {
	f := newFixture(t, Options[string]{NegativeTTL: time.Second})
	f.expectError("b", ErrNotFound)
	f.expectError("b", ErrNotFound)
	f.expectLoads(1)
	f.set("b", "new")
	f.advance(time.Second) // what was not found is never stale
	f.expect("b", "new")
	f.expectLoads(2)
}

var errDown = errors.New("the source is down")

// While the source fails a value may be stale up to the bound; then the reader is told how old it is. The source is not
// asked at every read.
func TestSourceFails(t *testing.T) {
	f := newFixture(t, Options[string]{TTL: ttl})
	f.fail(errDown)
	f.expectError("a", errDown)
	f.fail(nil)
	f.expect("a", "one")
	f.fail(errDown)
	f.advance(ttl)
	f.expect("a", "one")
	f.eventually("failing", func() bool { return f.Stats().Failures == 2 })
	f.expect("a", "one")
	f.expectLoads(3)
	f.advance(retryAfter)
	f.expect("a", "one")
	f.eventually("failing again", func() bool { return f.Stats().Failures == 3 })

	f.advance(defaultStaleBound)
	for range 2 { // one that asks the source, and one that does not
		r, err := f.Lookup(t.Context(), "a")
		var late *StaleError
		if !errors.As(err, &late) || !errors.Is(err, errDown) || r.Value != "one" || !r.Stale || late.Age != ttl+retryAfter+defaultStaleBound {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	f.expectError("a", errDown)
	f.expectLoads(5)
	f.fail(nil)
	f.expectError("a", errDown)
	f.advance(retryAfter)
	f.expect("a", "one")
}

func TestLoadTimeout(t *testing.T) {
	f := newFixture(t, Options[string]{LoadTimeout: time.Millisecond})
	defer f.holdLoads()()
	f.expectError("a", context.DeadlineExceeded)
}

// Close ends a load that is under way, and those who wait for it are told.
func TestClose(t *testing.T) {
	each(t, func(t *testing.T, o Options[string]) {
		f := newFixture(t, o)
		defer f.holdLoads()()
		var wg sync.WaitGroup
		wg.Go(func() { f.expectError("a", context.Canceled) })
		<-f.begun
		f.Close()
		wg.Wait()
		f.Close()
	})
}

func TestLoaderPanics(t *testing.T) {
	f := newFixture(t, Options[string]{Loader: LoaderFunc[string](func(context.Context, string, string) (Loaded[string], error) { panic("out of luck") })})
	_, err := f.Get(t.Context(), "a")
	if err == nil || err.Error() != "the loader of test panicked: out of luck" {
		t.Fatal(err)
	}
}

// What was on its way before an invalidation reaches those who asked before it, and nobody else.
func TestInvalidate(t *testing.T) {
	each(t, func(t *testing.T, o Options[string]) {
		f := newFixture(t, o)
		release := f.holdLoads()
		var wg sync.WaitGroup
		wg.Go(func() { f.expect("a", "one") })
		<-f.begun
		f.set("a", "two")
		f.advance(1)
		if err := f.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		f.advance(1)
		wg.Go(func() { f.expect("a", "two") })
		<-f.begun
		release()
		wg.Wait()
		f.expect("a", "two")
		f.expectLoads(2)
		f.another(o)
		f.expect("a", "two")
	})
}

// each runs f with each engine, with and without an L2.
func each(t *testing.T, f func(*testing.T, Options[string])) {
	for _, engine := range l1.Names() {
		t.Run(string(engine), func(t *testing.T) { f(t, Options[string]{Engine: engine}) })
		t.Run(string(engine)+"+l2", func(t *testing.T) { f(t, Options[string]{Engine: engine, L2: newL2(t, nil)}) })
	}
}

func newL2(t testing.TB, now func() time.Time) *l2.Embedded {
	e, err := l2.OpenEmbedded(filepath.Join(t.TempDir(), "cache.db"), now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Another process finds in L2 what this one loaded, also that something does not exist.
func TestL2(t *testing.T) {
	o := Options[string]{L2: newL2(t, nil), TTL: ttl}
	f := newFixture(t, o)
	f.expect("a", "one")
	f.expectError("b", ErrNotFound)
	f.another(o)
	f.fail(errDown)
	f.expect("a", "one")
	f.expectError("b", ErrNotFound)
	f.expectLoads(2)
	if s := f.Stats(); s.L2Hits != 2 || s.L2Misses != 0 || s.L2Errors != 0 {
		t.Errorf("got %+v", s)
	}
	f.another(o)
	f.advance(ttl) // stale in L2, too
	f.expect("a", "one")
	f.another(o)
	f.advance(defaultStaleBound)
	r, err := f.Lookup(t.Context(), "a")
	if late := (*StaleError)(nil); !errors.As(err, &late) || r.Value != "one" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// Whatever lies in L2, a reader gets what the source has, and L2 is repaired.
func TestL2Corrupt(t *testing.T) {
	for name, c := range map[string]struct {
		data           []byte
		corrupt, newer uint64
	}{
		"noise":        {[]byte("noise"), 1, 0},
		"other type":   {seal(t, 1, []byte{0x93, 1, 2, 3}), 1, 0},
		"newer schema": {seal(t, 2, []byte{0xa1, 'x'}), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options[string]{L2: newL2(t, nil), Schema: 1}
			f := newFixture(t, o)
			if err := o.L2.Put(t.Context(), f.sharedKey("a"), f.now(), c.data, ttl); err != nil {
				t.Fatal(err)
			}
			f.expect("a", "one")
			if s := f.Stats(); s.L2Corrupt != c.corrupt || s.L2Newer != c.newer || s.L2Hits != 0 {
				t.Errorf("got %+v", s)
			}
			f.another(o)
			f.expect("a", "one")
			f.expectLoads(1)
		})
	}
}

// seal returns a fresh record of test's key a.
func seal(t *testing.T, schema uint64, payload []byte) []byte {
	format, err := record.NewFormat(schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := format.Seal("test/a", record.Record{Version: 1, Stored: newClock().now(), Fresh: ttl, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	return data
}
