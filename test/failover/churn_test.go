package failover

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

var (
	churnLength = flag.Duration("churn", 20*time.Second, "how long TestChurn takes in all")
	churnSeed   = flag.Uint64("seed", 0, "what TestChurn does; 0: a fixed seed and one of the time, by turns")
)

const (
	churnBackends = 6
	churnFlows    = 48
)

// TestChurn lets backends fail and come back, and changes what is configured about them, all at random, under long-lived
// flows. It wants that
//
//   - no flow moves or breaks of a backend that is well and neither wished down nor removed;
//   - a backend that is well again takes new flows after rise probes and what damping holds it back for;
//   - a backend that is dead takes none after fall probes, unless too few are left, and stays out until it is well;
//   - standbys join when fewer than the minimum are left, and all are used when too few are, and at no other time;
//   - shares of the slots follow weights and scores, not too often, and scores follow latency, there and back.
//
// What is allowed to happen when is in model.
func TestChurn(t *testing.T) {
	executable := buildSluice(t)
	seeds := []uint64{*churnSeed}
	if *churnSeed == 0 {
		seeds = []uint64{1, uint64(time.Now().UnixNano())}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			runChurn(t, executable, seed, *churnLength/time.Duration(len(seeds)))
		})
	}
}

// buildSluice returns what SLUICE_BINARY names, or builds the program.
func buildSluice(t *testing.T) string {
	t.Helper()
	if named := os.Getenv("SLUICE_BINARY"); named != "" {
		return named
	}
	path := filepath.Join(t.TempDir(), "sluice")
	build := exec.Command("go", "build", "-o", path, "github.com/sluicelb/sluice/cmd/sluice")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building sluice: %v\n%s", err, output)
	}
	return path
}

// churn is one run.
type churn struct {
	site   *site
	model  *model
	began  time.Time
	cancel context.CancelFunc

	records map[string]*record // of the checks
	counts  map[string]int     // of what was checked

	flows, broken, refused atomic.Int64
	stalls, longest        atomic.Int64 // of the machine; ns
	wronged                atomic.Int64 // how often a backend was taken for dead in one
	opened                 atomic.Int64 // since the last check

	mu         sync.Mutex
	done       []string // deeds
	arrivals   map[string]int
	violations []string
}

func runChurn(t *testing.T, executable string, seed uint64, length time.Duration) {
	random := rand.New(rand.NewPCG(seed, 0))
	mode := pick(random, dataplane.ModeNAT, dataplane.ModeL2, dataplane.ModeIPIP, dataplane.ModeGUE)
	s, err := newSite(t.Context(), executable, mode, churnBackends, func(s *site) contender {
		return &sluice{site: s, executable: executable, profile: string(health.ProfileDefault)}
	})
	must(t, err)
	defer func() { must(t, s.close()) }()
	must(t, s.favour())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newChurn(s, cancel)
	script := writeScript(random, mode, churnBackends, length)
	if err := c.run(ctx, script, length); err != nil {
		t.Errorf("%v\n%s", err, s.Daemon.Output())
	}
	events := c.events()
	c.checkSteps(events)
	t.Logf("seed %d, mode %s, %v: %d deeds, %d flows (%d broke with their backend, %d were refused), %d events, checked: %v, the machine stalled %d times, for %v at most, which was taken for dead backends %d times",
		seed, mode, length, len(c.done), c.flows.Load(), c.broken.Load(), c.refused.Load(), len(events), c.counts, c.stalls.Load(), time.Duration(c.longest.Load()), c.wronged.Load())
	if len(c.violations) > 0 {
		t.Errorf("seed %d (go test ./test/failover -run TestChurn -churn %v -seed %d), mode %s:\n%s\n\nlast events:\n%s\n\nwhat was done:\n%s",
			seed, length, seed, mode, strings.Join(c.violations, "\n"), lines(events[max(0, len(events)-60):]),
			strings.Join(c.done[max(0, len(c.done)-150):], "\n"))
	}
}

func lines(events []control.Event) string {
	var text strings.Builder
	for _, e := range events {
		fmt.Fprintln(&text, e.Time.Local().Format(clock), e)
	}
	return text.String()
}

// favour gives the daemon and the backends more of the processors than everything else: a machine that does not let them run
// is no fault of theirs.
func (s *site) favour() error { return errors.Join(favour(s.Daemon), s.favourBackends()) }

func newChurn(s *site, cancel context.CancelFunc) *churn {
	c := &churn{site: s, cancel: cancel, began: time.Now(), records: make(map[string]*record), counts: make(map[string]int), arrivals: make(map[string]int)}
	var names []string
	for _, b := range s.backends {
		names = append(names, b.name)
		c.records[b.name] = &record{wrong: make(map[string]time.Time)}
	}
	c.model = newModel(regime{profile: health.ProfileDefault, ejecting: true, panic: off, minimum: 1}, names)
	return c
}

// run follows the script under traffic.
func (c *churn) run(ctx context.Context, script []deed, length time.Duration) error {
	watching, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	var watched error
	running.Go(func() { watched = c.watchStatus(watching) })
	for _, processor := range processors() {
		running.Go(func() {
			if err := c.watchStalls(watching, processor); err != nil {
				c.violated("watching processor %d: %v", processor, err)
			}
		})
	}
	for n := range churnFlows {
		running.Go(func() { c.keepFlow(watching, rand.New(rand.NewPCG(uint64(n), 1))) })
	}
	err := c.follow(ctx, script, length)
	if err == nil {
		err = stage.Sleep(ctx, time.Until(c.began.Add(length)))
	}
	stop()
	running.Wait()
	if len(c.violations) > 0 {
		return nil
	}
	return errors.Join(err, watched)
}

// follow does what the script says.
func (c *churn) follow(ctx context.Context, script []deed, length time.Duration) error {
	for _, d := range script {
		if d.at > length {
			return nil
		}
		if err := stage.Sleep(ctx, time.Until(c.began.Add(d.at))); err != nil {
			return err
		}
		c.mu.Lock()
		c.done = append(c.done, fmt.Sprintf("%s %s", time.Now().Format(clock), d))
		c.mu.Unlock()
		if err := c.model.change(d, func() error { return c.act(ctx, d) }); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	return nil
}

const clock = "15:04:05.000"

func (c *churn) act(ctx context.Context, d deed) error {
	switch what := d.what.(type) {
	case regime:
		return c.impose(ctx, what)
	case wish:
		return c.configure(ctx, d.subject, what)
	default:
		return c.treat(ctx, d.subject, what.(Fault))
	}
}

// impose changes what holds for all backends.
func (c *churn) impose(ctx context.Context, r regime) error {
	t := r.timing()
	pause := func(d time.Duration) control.Pause {
		if d == 0 {
			return off
		}
		return control.Pause(d)
	}
	policy := control.Health{SlowStart: pause(r.slowStart), Damping: pause(r.damping), MaxEjected: off, PanicThreshold: r.panic, Minimum: r.minimum}
	if r.ejecting {
		policy.MaxEjected = 10
	}
	_, err := c.site.Client.UpdateService(ctx, serviceName, control.ServicePatch{
		Probe: &control.Probe{
			Profile: r.profile, Interval: control.Duration(t.Interval), Timeout: control.Duration(t.Timeout), Rise: t.Rise, Fall: t.Fall,
		},
		Health: &policy, Tracking: &r.tracking,
	})
	return err
}

// configure changes what is wished of one backend.
func (c *churn) configure(ctx context.Context, subject int, w wish) error {
	_, conducts := c.model.look()
	was, b := conducts[subject].wish, c.site.backends[subject]
	var err error
	switch {
	case w.state == "":
		err = c.site.Client.RemoveBackend(ctx, serviceName, b.name)
	case was.state == "":
		_, err = c.site.Client.AddBackend(ctx, serviceName, control.Backend{Name: b.name, Address: netip.MustParseAddr(b.address), Weight: &w.weight, State: w.state})
	default:
		_, err = c.site.Client.UpdateBackend(ctx, serviceName, b.name, control.BackendPatch{Weight: &w.weight, State: &w.state})
	}
	return err
}

// treat begins a fault, or ends the one that is.
func (c *churn) treat(ctx context.Context, subject int, f Fault) error {
	b := c.site.backends[subject]
	if f != "" {
		return c.site.inject(f, b)
	}
	_, conducts := c.model.look()
	if err := c.site.heal(ctx, conducts[subject].fault, b); err != nil {
		return err
	}
	return favour(b.process)
}

// keepFlow has one flow, and another when that has ended, until ctx does.
func (c *churn) keepFlow(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		f, err := traffic.OpenFlow(ctx, c.site.network.Client, "http", target, 100*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.refused.Add(1)
			_ = stage.Sleep(ctx, 100*time.Millisecond)
			continue
		}
		c.arrived(f.Backend())
		select {
		case <-f.Done():
		case <-ctx.Done():
		case <-time.After(between(random, 300*time.Millisecond, 10*time.Second)):
		}
		last, err := f.Last(), error(nil)
		if ctx.Err() == nil {
			err = f.Close()
		}
		if err != nil && ctx.Err() == nil {
			c.judge(f.Backend(), last, err)
		}
		<-f.Done()
	}
}

func (c *churn) arrived(backend string) {
	c.flows.Add(1)
	c.opened.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals[backend]++
}

// takeArrivals returns how many flows a backend got since the last time.
func (c *churn) takeArrivals(backend string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer delete(c.arrivals, backend)
	return c.arrivals[backend]
}

// toldWithin is how soon it is known that the machine stalled.
const toldWithin = 500 * time.Millisecond

// judge takes the end of a flow that broke, and when it lived last.
func (c *churn) judge(backend string, last time.Time, err error) {
	ended := time.Now()
	time.Sleep(toldWithin)
	for _, at := range c.takenForDead(backend, last, ended) {
		if c.model.wronged(backend, at) {
			c.wronged.Add(1)
		}
	}
	if c.model.troubled(backend, last, ended) {
		c.broken.Add(1)
		return
	}
	c.violated("a flow of %s ended, which was well, last answer at %s: %v", backend, last.Format(clock), err)
}

// violated notes that a property does not hold, and ends the run.
func (c *churn) violated(format string, arguments ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violations = append(c.violations, fmt.Sprintf("%s (%7.2fs) %s", time.Now().Format(clock), time.Since(c.began).Seconds(), fmt.Sprintf(format, arguments...)))
	c.cancel()
}

// takenForDead returns when the daemon did so with a backend whose flow had its last answer and ended at these times.
func (c *churn) takenForDead(backend string, last, ended time.Time) (times []time.Time) {
	for _, e := range c.events() {
		if e.Backend == backend && e.To == string(control.StateDown) && e.Time.After(last.Add(-time.Second)) && e.Time.Before(ended) {
			times = append(times, e.Time)
		}
	}
	return times
}

// events returns what the daemon tells of, which is nothing when it has ended.
func (c *churn) events() (events []control.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	_ = c.site.Client.Events(ctx, control.EventsRequest{Service: serviceName}, func(e control.Event) bool {
		events = append(events, e)
		return true
	})
	return events
}
