package health

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// handshake tells a Monitor of one connection that is answered after a time.
func handshake(m monitor, flow uint32, took time.Duration) {
	m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
	time.Sleep(took)
	m.Signal("a", Signal{Kind: Answered, Flow: flow, At: time.Now(), Handshake: took})
}

// slowly is a target that would be probed in an hour.
func slowly() Target {
	t := target
	t.Interval = time.Hour
	return t
}

func TestUnansweredHandshakesHaveTheTargetProbed(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		for flow := range uint32(20) {
			handshake(m, flow, time.Millisecond)
		}
		n.always(blackhole)
		began := time.Now()
		for flow := range uint32(10) {
			m.Signal("a", Signal{Kind: Opened, Flow: 100 + flow, At: time.Now()})
			time.Sleep(2 * time.Millisecond)
		}
		v := <-verdicts
		took := v.Since.Sub(began) // the probes of a target that was not probed before take 100 ms
		if v.Up || took > 200*time.Millisecond || !strings.Contains(v.Cause, "; passive: ") {
			t.Errorf("after %v: %+v", took, v)
		}
	})
}

func TestRefusedAndRepeatedHandshakesHaveTheTargetProbed(t *testing.T) {
	for _, kind := range []SignalKind{Refused, Repeated, Unreachable} {
		run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
			before := len(n.seen())
			for flow := range uint32(burstFailures) {
				m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
				m.Signal("a", Signal{Kind: kind, Flow: flow, At: time.Now()})
			}
			if probes := len(n.seen()) - before; probes == 0 {
				t.Errorf("kind %d: no probe follows %d failures", kind, burstFailures)
			}
		})
	}
}

// A few failures among many good handshakes are no reason for anything.
func TestRareFailuresAreNoBurst(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		before := len(n.seen())
		for flow := range uint32(1000) {
			if flow%10 == 0 {
				m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
				m.Signal("a", Signal{Kind: Repeated, Flow: flow, At: time.Now()})
			} else {
				handshake(m, flow, time.Millisecond)
			}
		}
		_, measures := m.Look("a")
		if probes := len(n.seen()) - before; probes > 0 {
			t.Errorf("%d probes", probes)
		}
		if h := measures.Handshakes; math.Abs(h.Failed-0.1) > 0.02 || (h.Time-time.Millisecond).Abs() > time.Microsecond {
			t.Errorf("got %+v, want a tenth to have failed, in 1ms", h)
		}
	})
}

// Clients far away take their time.
func TestLongHandshakesAreWaitedFor(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		for flow := range uint32(30) {
			handshake(m, flow, time.Duration(100+flow%3*20)*time.Millisecond)
		}
		if _, measures := m.Look("a"); measures.Handshakes.Failed != 0 {
			t.Errorf("got %+v", measures.Handshakes)
		}
	})
}

func TestBurstsAreProbedSeldom(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		before := len(n.seen())
		for flow := range uint32(1000) {
			m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
			m.Signal("a", Signal{Kind: Refused, Flow: flow, At: time.Now()})
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		// Each burst is answered by one good probe.
		if probes := len(n.seen()) - before; probes < 10 || probes > 21 {
			t.Errorf("%d probes in a second of failures, want one each %v", probes, burstPause)
		}
	})
}

func TestSignalsOfAnUnknownTargetAreIgnored(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		m.Signal("b", Signal{Kind: Opened, At: time.Now()})
		for flow := range uint32(10 * maxPending) { // more than are waited for
			m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
		}
		time.Sleep(2 * longestHandshake)
		if _, measures := m.Look("a"); measures.Handshakes.Seen > maxPending {
			t.Errorf("got %+v", measures.Handshakes)
		}
	})
}

// When signals were lost, a handshake that seems unanswered may have been answered.
func TestLostSignalsBlameNobody(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		for flow := range uint32(10) {
			m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
		}
		m.Missed()
		time.Sleep(2 * longestHandshake)
		if _, measures := m.Look("a"); measures.Handshakes.Seen != 0 {
			t.Errorf("got %+v", measures.Handshakes)
		}
	})
}

// A target that is watched anew has its open handshakes still waited for.
func TestSetKeepsOpenHandshakes(t *testing.T) {
	run(t, slowly(), func(n *network, m monitor, verdicts chan Verdict) {
		for flow := range uint32(4) {
			m.Signal("a", Signal{Kind: Opened, Flow: flow, At: time.Now()})
		}
		slower := slowly()
		slower.Interval *= 2
		set(m.Monitor, map[string]Target{"a": slower})
		time.Sleep(longestHandshake + 2*expireInterval)
		if _, measures := m.Look("a"); measures.Handshakes.Seen < 3.9 {
			t.Errorf("%+v of 4 handshakes that nobody answered", measures.Handshakes)
		}
	})
}
