package health

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Of a target that is neither probed nor asked nothing is known, and nothing is kept until a connection to it is seen.
func TestUnknownTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options[string]{}, func(string) {})
		defer m.Close()
		none := Target{Timing: target.Timing}
		set(m, map[string]Target{"a": none, "b": none})
		if m.watches["a"] != m.watches["b"] {
			t.Error("each has a watch of its own")
		}
		begin := time.Now()
		for flow := range uint32(20) {
			m.Signal("a", Signal{Kind: Opened, Flow: flow, At: begin})
			m.Signal("a", Signal{Kind: Repeated, Flow: flow, At: begin})
		}
		if _, of := m.Look("a"); of.Handshakes.Seen < 19 {
			t.Errorf("of the one with failures %+v is known", of.Handshakes)
		}
		if v, of := m.Look("b"); !v.Up || of != (Measures{Success: 1}) {
			t.Errorf("of the other %+v is known", of)
		}
		set(m, map[string]Target{"a": target, "b": target})
		if _, of := m.Look("a"); of.Handshakes.Seen < 19 {
			t.Errorf("when it is probed too, %+v is known", of.Handshakes)
		}
		m.Unwatch("a")
		m.Signal("a", Signal{Kind: Opened, At: begin})
		if len(m.watches) != 1 || len(m.touched) != 0 {
			t.Errorf("of one that is gone something is kept: %v %v", m.watches, m.touched)
		}
	})
}

// Targets are told of when they were probed or a connection was seen, and while what was seen of connections fades.
func TestTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{standby: accept}
		m := New(n.options(), func(string) {})
		defer m.Close()
		set(m, map[string]Target{"probed": target, "seen": {Timing: target.Timing}, "quiet": {Timing: target.Timing}})
		expect := func(when string, want ...string) {
			t.Helper()
			got := m.Touched()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		expect("at first")
		time.Sleep(target.Interval)
		synctest.Wait()
		expect("after a probe", "probed")
		expect("at once again")
		m.Unwatch("probed")
		m.Signal("seen", Signal{Kind: Opened, Flow: 1, At: time.Now()})
		expect("a handshake", "seen")
		time.Sleep(longestHandshake + time.Second)
		expect("that is not answered", "seen")
		for flow := range uint32(20) {
			m.Signal("seen", Signal{Kind: Opened, Flow: flow, At: time.Now()})
			m.Signal("seen", Signal{Kind: Repeated, Flow: flow, At: time.Now()})
		}
		expect("many fail", "seen")
		expect("what is known of them counts", "seen")
		time.Sleep(5 * target.span())
		expect("it does not count any more", "seen")
		expect("and that is known")
	})
}

// A group waits while a member is held back, ejected or comes back slowly.
func TestGroupWaits(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	policy := Policy{SlowStart: 10 * time.Second, Damping: 30 * time.Second}
	var g Group[string]
	look := func(passed time.Duration, up bool) bool {
		at := now.Add(passed)
		g.Update(at, policy, []Member[string]{
			{Key: "a", Wish: Up, Weighted: true, Verdict: Verdict{Up: up}, Measures: Measures{Success: 1}},
			{Key: "b", Wish: Up, Weighted: true, Verdict: Verdict{Up: true}, Measures: Measures{Success: 1}},
		})
		return g.Waits()
	}
	for _, step := range []struct {
		passed time.Duration
		up     bool
		want   bool
	}{
		{0, true, false},
		{1 * time.Second, false, false},
		{2 * time.Second, true, true}, // slow start
		{13 * time.Second, true, false},
		{14 * time.Second, false, false}, // again
		{15 * time.Second, true, true},   // held back for 30 s, then slow start
		{43 * time.Second, true, true},
		{50 * time.Second, true, true},
		{60 * time.Second, true, false},
	} {
		if got := look(step.passed, step.up); got != step.want {
			t.Errorf("after %v: %t, want %t", step.passed, got, step.want)
		}
	}
}
