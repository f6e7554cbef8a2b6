package health

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
)

// State is the state of a backend.
type State string

// The states of a backend: as wished in a Member, as it is in a Decision.
const (
	Up       State = "up"       // takes new flows
	Draining State = "draining" // keeps its flows and takes no new ones
	Down     State = "down"     // its flows move to other backends
	Standby  State = "standby"  // takes new flows when too few others are up
)

// Policy says how a group's backends come and go. Percentages are 0..1.
type Policy struct {
	SlowStart      time.Duration // how long the weight of one that came back takes to grow to its full size; 0: at once
	Damping        time.Duration // how long one that failed again stays away at least, doubled each time up to ten times that; 0: not at all
	PanicThreshold float64       // when no more than this share is up all are used
	MaxEjected     float64       // share of the group that may be ejected for its handshakes, but always one
	Minimum        int           // so many are kept in use, if that many are up: standbys join below it, nobody is ejected, >= 0
}

const (
	// Weights begin here (Envoy's slow start has the same default, min_weight_percent).
	slowStartFrom = 0.1
	// A failure is forgotten after so long without another, and damping grows to ten times its first value by default: 30 s to 300 s.
	dampingFactor = 10
	// Handshakes of which so many fail, while half of the peers lose next to none, have a backend ejected for some time.
	ejectFailed   = 0.5
	peersFailed   = 0.1
	ejectionPause = 30 * time.Second
	// The weight in force is changed when the score differs by so much, in steps of 1/20: tables do not follow noise.
	hysteresis = 0.1
	steps      = 20
)

// Member is a backend of a group as the caller knows it.
type Member[K comparable] struct {
	Key      K
	Wish     State // Up, Draining, Down or Standby
	Weighted bool  // its weight is not 0
	Verdict  Verdict
	Measures Measures
}

// Decision says what a backend gets and why.
type Decision struct {
	State  State
	Cause  string
	Since  time.Time
	Terms  Terms
	Peers  Peers   // what the terms compare with
	Score  float64 // product of the terms
	Factor float64 // of its weight, in force: score and slow start, in steps; 0 when it takes no new flows

	SlowStart bool // its weight is growing
}

// Change is a decision that differs from the one before in what traffic follows: the state, or the weight in force.
type Change[K comparable] struct {
	Key           K
	Before, After Decision // Before is the zero value when there was none
}

// Group decides about backends that stand in for one another: those of a service, or of a set of it. Not safe for
// concurrent use.
type Group[K comparable] struct {
	members  map[K]*membership
	panicked bool
}

// membership is what is remembered of a member.
type membership struct {
	decision Decision
	wish     State     // when last decided about
	lost     bool      // it was down by the verdict then
	healthy  bool      // by the verdict, when last looked at
	back     time.Time // when its slow start began, zero: it has its full weight
	*trouble           // nil: it never had any, as nearly all of very many; see past
}

// trouble is what a member had.
type trouble struct {
	fails   int       // times it went down that are not forgotten
	failed  time.Time // the latest of them
	held    time.Time // it stays down until then though it is up
	ejected time.Time // it is out until then for its handshakes
	ejects  int       // how often, for the next one's length
}

// past returns the trouble that a member had, to be read.
func (s *membership) past() trouble {
	if s.trouble == nil {
		return trouble{}
	}
	return *s.trouble
}

// suffer makes room for trouble that a member has.
func (s *membership) suffer() {
	if s.trouble == nil {
		s.trouble = new(trouble)
	}
}

// Panicked says that too few backends are up, so that all are used.
func (g *Group[K]) Panicked() bool { return g.panicked }

// Decision returns the latest one about a member, false for one that it has not decided about.
func (g *Group[K]) Decision(key K) (Decision, bool) {
	m := g.members[key]
	if m == nil || m.decision.State == "" {
		return Decision{}, false
	}
	return m.decision, true
}

// Reasons says what takes from the weight, such as "success 0.50, slow start"; "" when nothing does.
func (d Decision) Reasons() string {
	var reasons []string
	for _, term := range []struct {
		name  string
		value float64
	}{
		{"success", d.Terms.Success}, {"latency", d.Terms.Latency}, {"handshakes", d.Terms.Handshakes}, {"load", d.Terms.Load},
	} {
		if term.value < 1-0.5/steps {
			reasons = append(reasons, fmt.Sprintf("%s %.2f", term.name, term.value))
		}
	}
	if d.SlowStart {
		reasons = append(reasons, "slow start")
	}
	return strings.Join(reasons, ", ")
}

// Update decides anew, for the members in their order, and returns what changed.
func (g *Group[K]) Update(now time.Time, policy Policy, members []Member[K]) (changes []Change[K]) {
	fresh := g.members == nil
	g.keep(members, now, fresh)
	measures := make([]Measures, 0, len(members))
	for _, m := range members {
		g.members[m.Key].follow(m.Verdict.Up, policy.Damping, now)
		if m.Verdict.Up && m.Wish != Down {
			measures = append(measures, m.Measures)
		}
	}
	peers := compare(measures)
	g.eject(members, policy, peers, now)
	joined := g.fill(members, policy, now)
	g.panicked = g.shouldPanic(members, policy, joined, now)
	for _, m := range members {
		s := g.members[m.Key]
		next := s.decide(m.Wish, m.Verdict, m.Measures.Load, joined[m.Key], now)
		next.Peers, next.Terms = peers, peers.terms(m.Measures)
		next.Score = next.Terms.Score()
		next.Factor = s.factor(next, policy, g.panicked && m.wanted(), now)
		next.SlowStart = next.State == Up && !s.back.IsZero()
		next.Since = s.decision.Since
		if next.State != s.decision.State {
			next.Since = now
			if fresh && !m.Verdict.Since.IsZero() {
				next.Since = m.Verdict.Since
			}
		}
		if next.State != s.decision.State || next.Factor != s.decision.Factor {
			changes = append(changes, Change[K]{m.Key, s.decision, next})
		}
		s.decision, s.wish, s.lost = next, m.Wish, !m.Verdict.Up
	}
	return changes
}

// wanted says that a member is there for new flows as long as nothing is wrong, and does not decline them itself.
func (m *Member[K]) wanted() bool { return m.Wish == Up && !m.Measures.Load.Drains() }

// keep forgets members that are gone and welcomes new ones. A group that is new itself takes its members as they are.
func (g *Group[K]) keep(members []Member[K], now time.Time, fresh bool) {
	known := make(map[K]*membership, len(members))
	for _, m := range members {
		s := g.members[m.Key]
		if s == nil {
			s = &membership{healthy: m.Verdict.Up}
			if !fresh && m.Verdict.Up {
				s.back = now
			}
		}
		known[m.Key] = s
	}
	g.members = known
}

// follow notes that a backend failed or came back, and how long it is to stay away.
func (s *membership) follow(up bool, damping time.Duration, now time.Time) {
	switch {
	case s.healthy && !up:
		s.suffer()
		if now.Sub(s.failed) > 2*dampingFactor*damping {
			s.fails = 0
		}
		s.fails++
		s.failed, s.back = now, time.Time{}
	case !s.healthy && up:
		s.back = now
		if past := s.past(); past.fails > 1 && damping > 0 {
			s.held = past.failed.Add(backOff(damping, past.fails-1, dampingFactor*damping))
		}
		if held := s.past().held; held.After(now) {
			s.back = held
		}
	}
	s.healthy = up
}

// backOff returns first, doubled for each further time, up to a limit.
func backOff(first time.Duration, times int, limit time.Duration) time.Duration {
	return min(first<<min(times-1, 10), limit)
}

// usable says that a backend could take new flows now.
func (s *membership) usable(now time.Time) bool {
	past := s.past()
	return s.healthy && !past.held.After(now) && !past.ejected.After(now)
}

// inUse counts the members wished up that take new flows now.
func (g *Group[K]) inUse(members []Member[K], now time.Time) (n int) {
	for _, m := range members {
		n += oneIf(m.wanted() && m.Weighted && g.members[m.Key].usable(now))
	}
	return n
}

// eject takes backends out whose connections fail where others' do not, though their probes succeed.
func (g *Group[K]) eject(members []Member[K], policy Policy, peers Peers, now time.Time) {
	most := max(1, int(policy.MaxEjected*float64(len(members))))
	out := 0
	for _, m := range members {
		out += oneIf(g.members[m.Key].past().ejected.After(now))
	}
	left := g.inUse(members, now)
	for _, m := range members {
		s, h := g.members[m.Key], m.Measures.Handshakes
		if !m.wanted() || !s.usable(now) || h.Seen < enough || h.Failed < ejectFailed || peers.HandshakesFailed > peersFailed {
			continue
		}
		if policy.MaxEjected == 0 || out >= most || left <= policy.Minimum {
			return
		}
		s.suffer()
		if now.Sub(s.ejected) > 2*dampingFactor*ejectionPause {
			s.ejects = 0
		}
		s.ejects++
		s.ejected = now.Add(backOff(ejectionPause, s.ejects, dampingFactor*ejectionPause))
		s.back = s.ejected
		out, left = out+1, left-1
	}
}

// fill keeps the minimum in use: standbys join in their order, then those that are held back or ejected return.
func (g *Group[K]) fill(members []Member[K], policy Policy, now time.Time) (joined map[K]bool) {
	missing := policy.Minimum - g.inUse(members, now)
	for _, m := range members {
		if missing > 0 && m.Wish == Standby && m.Weighted && !m.Measures.Load.Drains() && g.members[m.Key].usable(now) {
			if joined == nil {
				joined = make(map[K]bool)
			}
			joined[m.Key] = true
			missing--
		}
	}
	for _, m := range members {
		if s := g.members[m.Key]; missing > 0 && m.wanted() && m.Weighted && s.healthy && !s.usable(now) {
			s.held, s.ejected, s.back = time.Time{}, time.Time{}, now
			missing--
		}
	}
	return joined
}

// shouldPanic says that too few backends are up. Those that said themselves that they want no flows do not count.
func (g *Group[K]) shouldPanic(members []Member[K], policy Policy, joined map[K]bool, now time.Time) bool {
	wished := 0
	for _, m := range members {
		wished += oneIf(m.wanted() && m.Weighted)
	}
	inUse := float64(g.inUse(members, now) + len(joined))
	return wished > 0 && inUse <= policy.PanicThreshold*float64(wished) && (inUse == 0 || inUse < float64(wished))
}

// decide returns the state of a member and its cause.
func (s *membership) decide(wish State, verdict Verdict, report load.Report, joined bool, now time.Time) Decision {
	const clock = "15:04:05"
	past := s.past()
	switch {
	case wish == Down:
		return Decision{State: Down, Cause: "as wished"}
	case !verdict.Up:
		return Decision{State: Down, Cause: verdict.Cause}
	case past.held.After(now):
		return Decision{State: Down, Cause: fmt.Sprintf("held back until %s: failed %d times", past.held.Format(clock), past.fails)}
	case wish == Draining:
		return Decision{State: Draining, Cause: "as wished"}
	case report.Drains():
		return Decision{State: Draining, Cause: "its agent says " + report.String()}
	case past.ejected.After(now):
		return Decision{State: Draining, Cause: fmt.Sprintf("ejected until %s: its handshakes fail, others' do not", past.ejected.Format(clock))}
	case wish == Standby && !joined:
		return Decision{State: Standby, Cause: "as wished"}
	case wish == Standby:
		return Decision{State: Up, Cause: "too few others are up"}
	}
	return Decision{State: Up, Cause: s.whyUp(wish, verdict)}
}

// whyUp says what has brought a member to take new flows.
func (s *membership) whyUp(wish State, verdict Verdict) string {
	switch before := s.decision; {
	case before.State == "" || s.lost:
		return verdict.Cause
	case wish != s.wish:
		return "as wished"
	case before.State == Up:
		return before.Cause
	default:
		return "no longer: " + before.Cause
	}
}

// factor returns the share of its weight that a backend has in force.
func (s *membership) factor(d Decision, policy Policy, panicked bool, now time.Time) float64 {
	target := d.Score * s.ramp(policy.SlowStart, now) // slow start ends in a panic too
	if panicked {
		return 1
	}
	if d.State != Up {
		return 0
	}
	before := s.decision.Factor
	full := target > 1-0.5/steps && before != 1
	if before > 0 && math.Abs(target-before) < hysteresis && !full {
		return before
	}
	return max(1, math.Round(target*steps)) / steps
}

// ramp is slow start: the share grows evenly from slowStartFrom to 1.
func (s *membership) ramp(length time.Duration, now time.Time) float64 {
	passed := now.Sub(s.back)
	if s.back.IsZero() || passed >= length {
		s.back = time.Time{}
		return 1
	}
	return slowStartFrom + (1-slowStartFrom)*max(0, float64(passed)/float64(length))
}
