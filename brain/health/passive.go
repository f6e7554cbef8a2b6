package health

import (
	"fmt"
	"time"
)

// SignalKind is what was seen of a connection on its way to a target.
type SignalKind uint8

// The kinds of signals.
const (
	Opened      SignalKind = iota // its first SYN
	Repeated                      // a further SYN
	Answered                      // the client's first packet after it
	Refused                       // the target reset it before it was open
	Reset                         // the target reset it later, which may be its normal end
	Unreachable                   // a router or the target itself said that it cannot be reached
)

// Signal is one thing seen of one connection. Nothing is sent for it.
type Signal struct {
	Kind      SignalKind
	Flow      uint32        // tells the connections of a target apart
	At        time.Time     // when it was seen
	Handshake time.Duration // Answered: since the first SYN
}

// Handshakes is what was seen lately of the connections to a target.
type Handshakes struct {
	Time   time.Duration // geometric mean from SYN to the client's answer, 0 when none was seen
	Failed float64       // share that was not answered in time, repeated or refused, 0..1
	Seen   float64       // how many handshakes these figures rest on; older ones count less
}

const (
	// At most so many handshakes of a target are waited for; others are not looked at.
	maxPending = 256
	// So many failed handshakes in a row are a burst. It has the target probed at once, but not more often than this.
	burstFailures = 3
	burstPause    = 50 * time.Millisecond
	// What is told about a target that fails is of so long before.
	recentSpan = 200 * time.Millisecond
	// An answer is missing after four deviations as in RFC 6298, but not sooner nor later than this: clients may be far away.
	shortestHandshake = 20 * time.Millisecond
	longestHandshake  = time.Second
)

// passive judges the connections of one target. Those of which no answer comes in time have failed.
type passive struct {
	span     time.Duration // of the averages
	usual    estimator     // of handshake times
	times    logMean       // of handshakes
	failures average       // 1 for a handshake that failed, otherwise 0
	pending  map[uint32]time.Time
	recent   []outcome // in order of time, of the last recentSpan
	row      int       // how many of the latest failed
	poked    time.Time // when the latest burst was
}

type outcome struct {
	at     time.Time
	failed bool
}

// observe takes a signal and says whether failures come in a burst.
func (p *passive) observe(s Signal) (burst bool) {
	_, waiting := p.pending[s.Flow]
	switch s.Kind {
	case Opened:
		if len(p.pending) < maxPending {
			if p.pending == nil {
				p.pending = make(map[uint32]time.Time)
			}
			p.pending[s.Flow] = s.At
		}
	case Answered:
		p.usual.observe(s.Handshake)
		p.times.observe(s.Handshake, s.At, p.span)
		if waiting {
			delete(p.pending, s.Flow)
			p.count(outcome{s.At, false})
		}
	case Repeated, Refused, Unreachable:
		// What was waited for too long has been counted, and datagrams have no handshake.
		if waiting || s.Kind == Unreachable {
			delete(p.pending, s.Flow)
			return p.count(outcome{s.At, true})
		}
	}
	return false
}

// expire counts the handshakes that no answer came to, and says whether failures come in a burst.
func (p *passive) expire(now time.Time) (burst bool) {
	limit := longestHandshake
	if p.usual.known {
		limit = min(max(p.usual.late(), shortestHandshake), longestHandshake)
	}
	for flow, began := range p.pending {
		if now.Sub(began) > limit {
			delete(p.pending, flow)
			burst = p.count(outcome{now, true}) || burst
		}
	}
	return burst
}

func (p *passive) count(o outcome) (burst bool) {
	p.failures.observe(float64(oneIf(o.failed)), o.at, p.span)
	p.recent = append(p.recent, o)
	p.trim(o.at)
	p.row++
	if !o.failed {
		p.row = 0
	}
	if p.row < burstFailures || o.at.Sub(p.poked) < burstPause {
		return false
	}
	p.poked = o.at
	return true
}

func (p *passive) trim(now time.Time) {
	old := 0
	for old < len(p.recent) && (now.Sub(p.recent[old].at) > recentSpan || len(p.recent)-old > maxPending) {
		old++
	}
	p.recent = append(p.recent[:0], p.recent[old:]...)
}

// text says what was seen lately if it speaks against the target, such as "12 of 14 handshakes failed".
func (p *passive) text(now time.Time) string {
	p.trim(now)
	failed := 0
	for _, o := range p.recent {
		failed += oneIf(o.failed)
	}
	if failed > 0 {
		return fmt.Sprintf("passive: %d of %d handshakes failed", failed, len(p.recent))
	}
	return ""
}

// handshakes sums up.
func (p *passive) handshakes(now time.Time) Handshakes {
	p.failures.decay(now, p.span)
	return Handshakes{Time: p.times.mean(), Seen: p.failures.weight, Failed: p.failures.mean(priorHandshakes)}
}

func oneIf(condition bool) int {
	if condition {
		return 1
	}
	return 0
}
