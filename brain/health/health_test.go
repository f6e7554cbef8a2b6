package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var target = Target{
	Address:  netip.MustParseAddrPort("192.0.2.1:80"),
	Interval: 200 * time.Millisecond, Timeout: 100 * time.Millisecond,
	Rise: 2, Fall: 3,
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

func refuse(context.Context) error {
	return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func blackhole(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.probes = append(n.probes, time.Now())
	answer := n.standby
	if len(n.queue) > 0 {
		answer, n.queue = n.queue[0], n.queue[1:]
	}
	n.mu.Unlock()
	if err := answer(ctx); err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	there.Close()
	return here, nil
}

// run gives a test a Prober with one target, "a", whose verdicts it finds in the channel.
func run(t *testing.T, target Target, test func(n *network, p *Prober[string], verdicts chan Verdict)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{standby: accept}
		verdicts := make(chan Verdict, 100)
		var p *Prober[string]
		p = New(Options{Dial: n.dial}, func(key string) { verdicts <- p.Verdict(key) })
		defer p.Close()
		p.Set(map[string]Target{"a": target})
		test(n, p, verdicts)
	})
}

func TestNewTargetIsUpUntilItFalls(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		if v := p.Verdict("a"); !v.Up || v.Cause != "" {
			t.Errorf("a new target is %+v, want up without a cause", v)
		}
		n.always(refuse)
		if v := <-verdicts; v.Up || v.Cause != "3 of 3 probes failed: connection refused" || !v.Since.Equal(time.Now()) {
			t.Errorf("got %+v", v)
		}
	})
}

func TestNewTargetCanBeDownUntilItRises(t *testing.T) {
	down := target
	down.Down = true
	run(t, down, func(n *network, p *Prober[string], verdicts chan Verdict) {
		if p.Verdict("a").Up {
			t.Error("it is up from the beginning")
		}
		if v := <-verdicts; !v.Up || v.Cause != "2 of 2 probes succeeded" {
			t.Errorf("got %+v", v)
		}
	})
}

func TestMissIsConfirmedWithin10Milliseconds(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		n.always(refuse)
		<-verdicts
		probes := n.seen()
		if took := probes[2].Sub(probes[0]); len(probes) != 3 || took != 20*time.Millisecond {
			t.Errorf("%d probes in %v led to the verdict, want 3 in 20ms", len(probes), took)
		}
		// Down, it is probed at the interval again.
		time.Sleep(2 * target.Interval)
		probes = n.seen()
		if gap := probes[4].Sub(probes[3]); gap != target.Interval {
			t.Errorf("while it is down a probe follows after %v, want %v", gap, target.Interval)
		}
	})
}

func TestSilentTargetFallsAfterTheTimeouts(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		n.always(blackhole)
		v := <-verdicts
		if v.Up || v.Cause != "3 of 3 probes failed: no answer within 100ms" {
			t.Errorf("got %+v", v)
		}
		if took := v.Since.Sub(n.seen()[0]); took != 320*time.Millisecond {
			t.Errorf("the verdict took %v from the first probe, want 3 timeouts and 2 confirmations", took)
		}
	})
}

func TestSuccessBetweenMissesKeepsTargetUp(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
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
	run(t, down, func(n *network, p *Prober[string], verdicts chan Verdict) {
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
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		n.always(func(context.Context) error {
			return &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		})
		time.Sleep(10 * target.Interval)
		if probes := n.seen(); len(probes) != 10 {
			t.Errorf("%d probes in 10 intervals", len(probes))
		}
		if v := p.Verdict("a"); !v.Up || len(verdicts) != 0 {
			t.Errorf("got %+v", v)
		}
	})
}

func TestSetKeepsVerdictsOfTargetsThatStay(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		n.always(refuse)
		fallen := <-verdicts
		slower := target
		slower.Interval = time.Second
		other := target
		other.Address = netip.MustParseAddrPort("192.0.2.2:80")
		p.Set(map[string]Target{"a": slower, "b": other})
		if v := p.Verdict("a"); v != fallen {
			t.Errorf("a changed target is %+v, want %+v", v, fallen)
		}
		if !p.Verdict("b").Up {
			t.Error("a new target is down")
		}
		p.Set(map[string]Target{"b": other})
		if v := p.Verdict("a"); !v.Up || !v.Since.IsZero() {
			t.Errorf("a removed target is %+v", v)
		}
		p.Set(map[string]Target{"a": target, "b": other})
		if !p.Verdict("a").Up {
			t.Error("a target that is back is not new")
		}
	})
}

func TestSetLeavesTheScheduleOfUnchangedTargets(t *testing.T) {
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		time.Sleep(target.Interval)
		synctest.Wait()
		for range 100 {
			p.Set(map[string]Target{"a": target})
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
	run(t, target, func(n *network, p *Prober[string], verdicts chan Verdict) {
		n.always(blackhole)
		time.Sleep(target.Interval + time.Millisecond) // a probe is under way
		p.Set(nil)
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
		p := New(Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			probes <- time.Since(started)
			return nil, errors.New("some error")
		}}, func(int) {})
		defer p.Close()
		targets := map[int]Target{}
		for i := range 1000 {
			targets[i] = Target{Address: target.Address, Interval: time.Hour, Timeout: time.Second, Rise: 1, Fall: 1}
		}
		p.Set(targets)
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

// The rest uses real sockets.

func TestRealListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	go serve(listener)
	verdicts := make(chan Verdict, 10)
	var p *Prober[string]
	p = New(Options{}, func(key string) { verdicts <- p.Verdict(key) })
	defer p.Close()
	p.Set(map[string]Target{"a": {
		Address: netip.MustParseAddrPort(address), Interval: 20 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3,
	}})

	listener.Close()
	if v := <-verdicts; v.Up || v.Cause != "3 of 3 probes failed: connection refused" {
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

// A probe must hang up with a reset and send nothing.
func TestProbeLeavesNoTimeWait(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer listener.Close()
	p := New(Options{}, func(string) {})
	defer p.Close()
	p.Set(map[string]Target{"a": {
		Address: netip.MustParseAddrPort(listener.Addr().String()), Interval: 10 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1,
	}})
	for range 3 {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		data, err := io.ReadAll(conn)
		if !errors.Is(err, syscall.ECONNRESET) || len(data) != 0 {
			t.Errorf("the probe sent %q and ended with %v, want nothing and a reset", data, err)
		}
		conn.Close()
	}
	p.Close()
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()
	sockets, err := os.ReadFile("/proc/net/tcp6")
	if err != nil {
		t.Fatal(err)
	}
	const timeWait = "06" // TCP_TIME_WAIT in the kernel's include/net/tcp_states.h
	for line := range strings.Lines(string(sockets)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", port)) && fields[3] == timeWait {
			t.Errorf("a probe's connection is in TIME_WAIT: %s", line)
		}
	}
}
