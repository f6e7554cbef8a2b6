package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
	"github.com/sluicelb/sluice/brain/health/probe"
)

var target = Target{
	Address: netip.MustParseAddrPort("192.0.2.1:80"),
	Probe:   probe.Spec{Kind: probe.TCP},
	Timing: Timing{
		Interval: 200 * time.Millisecond, Timeout: 100 * time.Millisecond, Floor: 20 * time.Millisecond, Patience: 16, Confirm: 5 * time.Millisecond,
		Rise: 2, Fall: 3,
	},
}

// network answers probes as a test wants it, on the fake clock of a synctest bubble.
type network struct {
	mu      sync.Mutex
	queue   []answer // for the next probes
	standby answer   // for the others
	probes  []time.Time
}

type answer func(context.Context) error

// always answers every probe from now on in the same way.
func (n *network) always(a answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.standby = a
}

// next answers the next probes, each with one of the answers.
func (n *network) next(answers ...answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, answers...)
}

// seen returns when probes began.
func (n *network) seen() []time.Time {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.probes)
}

func accept(context.Context) error { return nil }

func refuse(context.Context) error { return fmt.Errorf("connect: %w", syscall.ECONNREFUSED) }

// after answers after a time, unless the probe ends before.
func after(latency time.Duration) answer {
	return func(ctx context.Context) error {
		select {
		case <-time.After(latency):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("no answer%w", quiet{ctx.Err()})
		}
	}
}

// quiet is an error without a text.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

func blackhole(ctx context.Context) error { return after(time.Hour)(ctx) }

// Probe makes a network the Prober of each of its targets.
func (n *network) Probe(ctx context.Context, _ *probe.Connect) error {
	n.mu.Lock()
	n.probes = append(n.probes, time.Now())
	answer := n.standby
	if len(n.queue) > 0 {
		answer, n.queue = n.queue[0], n.queue[1:]
	}
	n.mu.Unlock()
	return answer(ctx)
}

func (n *network) options() Options[string] {
	return Options[string]{Prober: func(string, Target) (Prober, error) { return n, nil }}
}

// monitor is a Monitor with what tests ask of it.
type monitor struct{ *Monitor[string] }

func (m monitor) Verdict(key string) Verdict {
	v, _ := m.Look(key)
	return v
}

// set has just these targets watched.
func set[K comparable](m *Monitor[K], targets map[K]Target) (err error) {
	m.mu.Lock()
	watched := slices.Collect(maps.Keys(m.watches))
	m.mu.Unlock()
	for _, key := range watched {
		if _, stays := targets[key]; !stays {
			m.Unwatch(key)
		}
	}
	for key, target := range targets {
		err = errors.Join(err, m.Watch(key, target))
	}
	return err
}

// run gives a test a Monitor with one target, "a", whose verdicts it finds in the channel.
func run(t *testing.T, target Target, test func(n *network, m monitor, verdicts chan Verdict)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{standby: accept}
		verdicts := make(chan Verdict, 100)
		var m monitor
		m.Monitor = New(n.options(), func(key string) { verdicts <- m.Verdict(key) })
		defer m.Close()
		set(m.Monitor, map[string]Target{"a": target})
		test(n, m, verdicts)
	})
}

func TestNewTargetIsUpUntilItFalls(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		if v := m.Verdict("a"); !v.Up || v.Cause != "" {
			t.Errorf("a new target is %+v, want up without a cause", v)
		}
		n.always(refuse)
		if v := <-verdicts; v.Up || v.Cause != "3 of 3 probes failed within 10ms: connect: connection refused" || !v.Since.Equal(time.Now()) {
			t.Errorf("got %+v", v)
		}
	})
}

func TestNewTargetCanBeDownUntilItRises(t *testing.T) {
	down := target
	down.Down = true
	run(t, down, func(n *network, m monitor, verdicts chan Verdict) {
		if m.Verdict("a").Up {
			t.Error("it is up from the beginning")
		}
		if v := <-verdicts; !v.Up || v.Cause != "2 of 2 probes succeeded" {
			t.Errorf("got %+v", v)
		}
	})
}

func TestMissIsConfirmedAtOnce(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(refuse)
		<-verdicts
		probes := n.seen()
		if took := probes[2].Sub(probes[0]); len(probes) != 3 || took != 2*target.Confirm {
			t.Errorf("%d probes in %v led to the verdict, want 3 in 10ms", len(probes), took)
		}
		// Down, it is probed at the interval again.
		time.Sleep(2 * target.Interval)
		probes = n.seen()
		if gap := probes[4].Sub(probes[3]); gap != target.Interval {
			t.Errorf("while it is down a probe follows after %v, want %v", gap, target.Interval)
		}
	})
}

// Nothing is known of a target that never answered: each of its probes has the whole timeout.
func TestSilentFromTheBeginning(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(blackhole)
		v := <-verdicts
		if v.Up || v.Cause != "3 of 3 probes failed within 205ms: no answer within 100ms" {
			t.Errorf("got %+v", v)
		}
	})
}

// A target that answers within a millisecond is given 20 ms, and the probes that confirm begin as soon as the first is late.
func TestSilentAfterFastAnswers(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(after(500 * time.Microsecond))
		time.Sleep(20 * target.Interval)
		n.always(blackhole)
		before := len(n.seen())
		v := <-verdicts
		took := v.Since.Sub(n.seen()[before])
		if v.Up || took < target.Floor || took > 30*time.Millisecond {
			t.Errorf("%v after the first missing answer: %+v", took, v)
		}
	})
}

// One that becomes ten times slower is slow, not gone.
func TestSlowIsNotDown(t *testing.T) {
	for _, usual := range []time.Duration{100 * time.Microsecond, 2 * time.Millisecond, 5 * time.Millisecond} {
		run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
			n.always(after(usual))
			time.Sleep(20 * target.Interval)
			n.always(after(10 * usual))
			time.Sleep(100 * target.Interval)
			if _, measures := m.Look("a"); len(verdicts) > 0 || measures.Latency < 9*usual || measures.Latency > 11*usual {
				t.Errorf("latency %v -> %v: %d verdicts, %+v", usual, 10*usual, len(verdicts), measures)
			}
		})
	}
}

// A probe or two that took long are no reason to move traffic.
func TestFewProbesSayNothingOfLatency(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(after(time.Millisecond))
		for i := 1; i <= 6; i++ {
			for len(n.seen()) < i {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(2 * time.Millisecond)
			_, measures := m.Look("a")
			if known := measures.Latency > 0; measures.Probes == 0 || known != (measures.Probes >= enoughProbes) || i == 6 && !known {
				t.Errorf("after %d probes: %+v", i, measures)
			}
		}
	})
}

// A host that does not accept connections any more is given less time than a server that does not answer on one.
func TestHostThatAcceptsNothing(t *testing.T) {
	fast, _ := ProfileFast.Timing()
	for connects, most := range map[bool]time.Duration{true: 90 * time.Millisecond, false: 40 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			var gone atomic.Bool
			server := func(ctx context.Context, c *probe.Connect) error {
				if gone.Load() && !connects {
					ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Limit, time.Hour))
					defer cancel()
					return blackhole(ctx)
				}
				c.Took = 100 * time.Microsecond
				if gone.Load() {
					return blackhole(ctx)
				}
				return after(5 * time.Millisecond)(ctx)
			}
			verdicts := make(chan Verdict, 10)
			var m monitor
			m.Monitor = New(Options[string]{Prober: func(string, Target) (Prober, error) { return connector(server), nil }},
				func(key string) { verdicts <- m.Verdict(key) })
			defer m.Close()
			set(m.Monitor, map[string]Target{"a": {Probe: target.Probe, Timing: fast}})
			time.Sleep(time.Second)
			began := time.Now()
			gone.Store(true)
			if v := <-verdicts; v.Up || v.Since.Sub(began) > most {
				t.Errorf("connects %v: after %v: %+v", connects, v.Since.Sub(began), v)
			}
		})
	}
}

type connector func(context.Context, *probe.Connect) error

func (c connector) Probe(ctx context.Context, connect *probe.Connect) error { return c(ctx, connect) }

// Of a host that cannot run its own timers in time nothing is concluded about others.
func TestLateTimeoutIsNoMiss(t *testing.T) {
	miss := fmt.Errorf("no answer: %w", context.DeadlineExceeded)
	const timeout = 20 * time.Millisecond
	if inconclusive(miss, timeout, time.Millisecond) {
		t.Error("a timeout in time counts for nothing")
	}
	if !inconclusive(miss, timeout, timeout) {
		t.Error("a timeout that was noticed at twice its time counts")
	}
}

// A daemon that did not run for part of a probe's time may have missed the answer, though the timeout was in time.
// Each of the three probes that are under way together loses that much.
func TestMissOfProcessThatDidNotRun(t *testing.T) {
	for late, dead := range map[time.Duration]bool{0: true, 1500 * time.Microsecond: true, 6 * time.Millisecond: false} {
		run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
			n.always(after(500 * time.Microsecond))
			time.Sleep(20 * target.Interval)
			n.always(func(ctx context.Context) error {
				time.Sleep(10 * time.Millisecond)
				m.pulse.delay(late)
				return blackhole(ctx)
			})
			time.Sleep(20 * target.Interval)
			if _, measures := m.Look("a"); m.Verdict("a").Up == dead || dead == (measures.NotProbed != "") {
				t.Errorf("%v late: %+v, and not probed for %q", late, m.Verdict("a"), measures.NotProbed)
			}
			n.always(blackhole)
			time.Sleep(2 * target.Interval)
			if m.Verdict("a").Up {
				t.Errorf("%v late: it stays up when this process runs again", late)
			}
		})
	}
}

func TestSuccessBetweenMissesKeepsTargetUp(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		for range 20 {
			n.next(refuse, refuse, accept)
		}
		time.Sleep(30 * target.Interval)
		if probes := n.seen(); len(verdicts) != 0 || len(probes) < 60 {
			t.Errorf("%d probes led to %d verdicts, want none", len(probes), len(verdicts))
		}
	})
}

func TestFailureBetweenSuccessesKeepsTargetDown(t *testing.T) {
	down := target
	down.Down = true
	run(t, down, func(n *network, m monitor, verdicts chan Verdict) {
		for range 20 {
			n.next(accept, refuse)
		}
		n.always(refuse)
		time.Sleep(41 * target.Interval)
		if probes := n.seen(); len(verdicts) != 0 || len(probes) < 40 {
			t.Errorf("%d probes led to %d verdicts, want none", len(probes), len(verdicts))
		}
	})
}

// A host without file descriptors or local ports must not take its backends for dead.
func TestLocalFaultIsNoMiss(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(func(context.Context) error {
			return fmt.Errorf("connect: %w", syscall.EMFILE)
		})
		time.Sleep(10 * target.Interval)
		if probes := n.seen(); len(probes) != 10 {
			t.Errorf("%d probes in 10 intervals", len(probes))
		}
		if v := m.Verdict("a"); !v.Up || len(verdicts) != 0 {
			t.Errorf("got %+v", v)
		}
	})
}

// A target in doubt is soon probed again, but one that this host cannot probe does not keep it busy.
func TestDoubtWithoutAnswerBacksOff(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.next(accept, refuse)
		n.always(func(context.Context) error { return ErrNotSent })
		time.Sleep(12 * target.Interval)
		probes := n.seen()[1:] // 5, 10, 20, ... 160 ms between them, then the interval
		if len(probes) < 14 || len(probes) > 18 {
			t.Errorf("%d probes in 11 intervals", len(probes))
		}
		if last := probes[len(probes)-1].Sub(probes[len(probes)-2]); last != target.Interval {
			t.Errorf("the last two are %v apart", last)
		}
		if v, measures := m.Look("a"); !v.Up || measures.NotProbed != ErrNotSent.Error() {
			t.Errorf("got %+v", measures)
		}
	})
}

// agent says the same every time.
type agent load.Report

func (a agent) Read(context.Context) (load.Report, error) { return load.Report(a), nil }

// Watching a target in another way does not take back what it said of itself.
func TestSetKeepsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{standby: accept}
		var reporter Reporter = agent{Health: load.Down}
		options := n.options()
		options.Reporter = func(string, Target) (Reporter, error) { return reporter, nil }
		m := New(options, func(string) {})
		defer m.Close()
		asked := target
		asked.Load = LoadSource{Spec: load.Spec{Kind: load.Agent}, Address: target.Address, Interval: time.Second}
		set(m, map[string]Target{"a": asked})
		synctest.Wait()
		if v, _ := m.Look("a"); v.Up || v.Cause != "its agent says down" {
			t.Errorf("got %+v", v)
		}
		slower := asked
		slower.Interval = time.Minute
		set(m, map[string]Target{"a": slower})
		if v, _ := m.Look("a"); v.Up {
			t.Error("it is up at once after a change")
		}
		reporter = agent{Health: load.Up}
		set(m, map[string]Target{"a": asked})
		synctest.Wait()
		if v, _ := m.Look("a"); !v.Up || v.Cause != "its agent does not say down any more" {
			t.Errorf("got %+v", v)
		}
	})
}

func TestSetKeepsVerdictsOfTargetsThatStay(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(refuse)
		fallen := <-verdicts
		slower := target
		slower.Interval = time.Second
		other := target
		other.Address = netip.MustParseAddrPort("192.0.2.2:80")
		set(m.Monitor, map[string]Target{"a": slower, "b": other})
		if v := m.Verdict("a"); v != fallen {
			t.Errorf("a changed target is %+v, want %+v", v, fallen)
		}
		if !m.Verdict("b").Up {
			t.Error("a new target is down")
		}
		set(m.Monitor, map[string]Target{"b": other})
		if v := m.Verdict("a"); !v.Up || !v.Since.IsZero() {
			t.Errorf("a removed target is %+v", v)
		}
		set(m.Monitor, map[string]Target{"a": target, "b": other})
		if !m.Verdict("a").Up {
			t.Error("a target that is back is not new")
		}
	})
}

func TestSetLeavesTheScheduleOfUnchangedTargets(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		time.Sleep(target.Interval)
		synctest.Wait()
		for range 100 {
			set(m.Monitor, map[string]Target{"a": target})
			time.Sleep(target.Interval / 10)
		}
		probes := n.seen()
		for i := range probes[1:] {
			if gap := probes[i+1].Sub(probes[i]); gap != target.Interval {
				t.Fatalf("probes %d and %d are %v apart", i, i+1, gap)
			}
		}
		if len(probes) < 10 {
			t.Errorf("%d probes in 11 intervals", len(probes))
		}
	})
}

func TestRemovedTargetIsNotProbed(t *testing.T) {
	run(t, target, func(n *network, m monitor, verdicts chan Verdict) {
		n.always(blackhole)
		time.Sleep(target.Interval + time.Millisecond) // a probe is under way
		set(m.Monitor, nil)
		before := len(n.seen())
		time.Sleep(10 * target.Interval)
		if after := len(n.seen()); before == 0 || after != before || len(verdicts) != 0 {
			t.Errorf("%d probes before the target was removed, %d probes and %d verdicts after", before, after-before, len(verdicts))
		}
	})
}

func TestTargetsSpreadOverTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		probes := make(chan time.Duration, 2000)
		spread := answer(func(context.Context) error {
			probes <- time.Since(started)
			return errors.New("some error")
		})
		m := New(Options[int]{Prober: func(int, Target) (Prober, error) { return proberFunc(spread), nil }}, func(int) {})
		defer m.Close()
		targets := map[int]Target{}
		slow := target
		slow.Interval, slow.Rise, slow.Fall = time.Hour, 1, 1
		for i := range 1000 {
			targets[i] = slow
		}
		set(m, targets)
		tenths := [10]int{}
		for range targets {
			tenths[<-probes/(6*time.Minute)]++
		}
		for i, n := range tenths {
			if n < 50 || n > 150 {
				t.Errorf("%d of 1000 first probes are in tenth %d of the interval", n, i)
			}
		}
	})
}

type proberFunc answer

func (f proberFunc) Probe(ctx context.Context, _ *probe.Connect) error { return f(ctx) }

// The rest uses real sockets.

func TestRealListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	go serve(listener)
	verdicts := make(chan Verdict, 10)
	var m monitor
	m.Monitor = New(Options[string]{}, func(key string) { verdicts <- m.Verdict(key) })
	defer m.Close()
	there := target
	there.Address, there.Interval, there.Timeout = netip.MustParseAddrPort(address), 20*time.Millisecond, time.Second
	set(m.Monitor, map[string]Target{"a": there})

	listener.Close()
	if v := <-verdicts; v.Up || !strings.HasSuffix(v.Cause, "connect: connection refused") {
		t.Errorf("after the listener was closed: %+v", v)
	}
	listener, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go serve(listener)
	if v := <-verdicts; !v.Up || v.Cause != "2 of 2 probes succeeded" {
		t.Errorf("after it was opened again: %+v", v)
	}
}

func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}
