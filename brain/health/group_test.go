package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
)

// site is a group of backends under test, named by letters, on a clock of its own.
type site struct {
	group   Group[string]
	policy  Policy
	members []Member[string]
	now     time.Time
}

func newSite(names string) *site {
	s := &site{now: time.Unix(1_000_000, 0), policy: Policy{
		SlowStart: 10 * time.Second, Damping: 30 * time.Second, MaxEjected: 0.1, Minimum: 1,
	}}
	for _, name := range strings.Split(names, "") {
		s.members = append(s.members, Member[string]{
			Key: name, Wish: Up, Weighted: true, Verdict: Verdict{Up: true}, Measures: Measures{Success: 1},
		})
	}
	s.group.Update(s.now, s.policy, s.members)
	return s
}

func (s *site) member(name string) *Member[string] {
	for i := range s.members {
		if s.members[i].Key == name {
			return &s.members[i]
		}
	}
	panic(name)
}

// after lets time pass, in steps as a daemon would look, and returns how often something changed.
func (s *site) after(d time.Duration) (changes int) {
	for end := s.now.Add(d); ; s.now = s.now.Add(min(250*time.Millisecond, end.Sub(s.now))) {
		changes += oneIf(len(s.group.Update(s.now, s.policy, s.members)) > 0)
		if !s.now.Before(end) {
			return changes
		}
	}
}

func (s *site) fail(name string) {
	s.member(name).Verdict = Verdict{Cause: "3 of 3 probes failed"}
	s.after(0)
}

func (s *site) recover(name string) {
	s.member(name).Verdict = Verdict{Up: true, Cause: "2 of 2 probes succeeded"}
	s.after(0)
}

// states are those of the members with their factors, such as "a:up 1.00".
func (s *site) states() string {
	var texts []string
	for _, m := range s.members {
		d, _ := s.group.Decision(m.Key)
		texts = append(texts, fmt.Sprintf("%s:%s %.2f", m.Key, d.State, d.Factor))
	}
	return strings.Join(texts, ", ")
}

func (s *site) expect(t *testing.T, want string) {
	t.Helper()
	if got := s.states(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNewGroupTakesItsMembersAsTheyAre(t *testing.T) {
	s := newSite("ab")
	s.expect(t, "a:up 1.00, b:up 1.00")
	if changes := s.after(time.Hour); changes > 0 {
		t.Errorf("%d changes while nothing happened", changes)
	}
}

func TestWishesAreFollowed(t *testing.T) {
	s := newSite("abcd")
	s.member("b").Wish, s.member("c").Wish, s.member("d").Wish = Draining, Down, Standby
	s.after(0)
	s.expect(t, "a:up 1.00, b:draining 0.00, c:down 0.00, d:standby 0.00")
	if d, _ := s.group.Decision("b"); d.Cause != "as wished" {
		t.Errorf("the cause is %q", d.Cause)
	}
}

func TestSlowStart(t *testing.T) {
	s := newSite("ab")
	s.fail("a")
	s.expect(t, "a:down 0.00, b:up 1.00")
	s.recover("a")
	s.expect(t, "a:up 0.10, b:up 1.00")
	if d, _ := s.group.Decision("a"); d.Reasons() != "slow start" {
		t.Errorf("the reasons are %q", d.Reasons())
	}
	changes := s.after(5 * time.Second)
	s.expect(t, "a:up 0.50, b:up 1.00") // 0.1 + 0.9/2, the last step before
	changes += s.after(6 * time.Second)
	s.expect(t, "a:up 1.00, b:up 1.00")
	if changes > 10 {
		t.Errorf("%d table rewrites", changes)
	}
	s.policy.SlowStart = 0
	s.fail("b")
	s.recover("b")
	s.expect(t, "a:up 1.00, b:up 1.00")
}

func TestAddedMemberStartsSlowly(t *testing.T) {
	s := newSite("a")
	s.members = append(s.members, newSite("b").members...)
	s.after(0)
	s.expect(t, "a:up 1.00, b:up 0.10")
}

// The second failure keeps a backend away for 30 s, each further one twice as long, up to 300 s; a good time forgets them.
func TestDamping(t *testing.T) {
	s := newSite("ab")
	s.policy.SlowStart = 0
	for i, away := range []time.Duration{0, 30, 60, 120, 240, 300, 300} {
		failed := s.now
		s.fail("a")
		s.after(time.Second)
		s.recover("a")
		for d, _ := s.group.Decision("a"); d.State != Up; d, _ = s.group.Decision("a") {
			if !strings.Contains(d.Cause, "held back until") {
				t.Fatalf("failure %d: %q", i+1, d.Cause)
			}
			s.after(time.Second)
		}
		if stayed := s.now.Sub(failed); stayed < away*time.Second || stayed > (away+2)*time.Second {
			t.Errorf("failure %d: away for %v, want %v s", i+1, stayed, int(away))
		}
	}
	s.after(11 * time.Minute)
	s.fail("a")
	s.recover("a")
	s.expect(t, "a:up 1.00, b:up 1.00")
}

func TestDampingGivesWayToTheMinimum(t *testing.T) {
	s := newSite("ab")
	s.policy.SlowStart = 0
	s.fail("a")
	s.recover("a")
	s.fail("a")
	s.recover("a")
	s.expect(t, "a:down 0.00, b:up 1.00")
	s.fail("b")
	s.expect(t, "a:up 1.00, b:down 0.00")
}

func TestPanic(t *testing.T) {
	s := newSite("abcd")
	for _, name := range []string{"a", "b", "c"} {
		s.fail(name)
	}
	if s.group.Panicked() {
		t.Error("it panics with one backend up")
	}
	s.fail("d")
	s.expect(t, "a:down 1.00, b:down 1.00, c:down 1.00, d:down 1.00")
	if !s.group.Panicked() {
		t.Error("it does not panic without any")
	}
	s.policy.PanicThreshold = 0.5
	s.recover("a")
	s.recover("b")
	if !s.group.Panicked() {
		t.Error("it does not panic at half of them")
	}
	s.recover("c")
	if s.group.Panicked() {
		t.Error("it panics above the threshold")
	}
}

// A backend that is drained or has no weight is none that could be missed.
func TestPanicCountsThoseThatShouldServe(t *testing.T) {
	s := newSite("abc")
	s.member("a").Wish, s.member("b").Weighted = Draining, false
	s.after(0)
	if s.group.Panicked() {
		t.Error("it panics though one of one is up")
	}
	s.member("c").Wish = Draining
	s.after(0)
	if s.group.Panicked() {
		t.Error("it panics though all are drained")
	}
}

func TestStandbysJoinBelowTheMinimum(t *testing.T) {
	s := newSite("abcd")
	s.policy.Minimum, s.policy.SlowStart = 2, 0
	s.member("c").Wish, s.member("d").Wish = Standby, Standby
	s.after(0)
	s.expect(t, "a:up 1.00, b:up 1.00, c:standby 0.00, d:standby 0.00")
	s.fail("a")
	s.expect(t, "a:down 0.00, b:up 1.00, c:up 1.00, d:standby 0.00")
	s.fail("c")
	s.expect(t, "a:down 0.00, b:up 1.00, c:down 0.00, d:up 1.00")
	s.recover("a")
	s.expect(t, "a:up 1.00, b:up 1.00, c:down 0.00, d:standby 0.00")
}

func TestSlowBackendGetsLess(t *testing.T) {
	s := newSite("abcde")
	for i := range s.members {
		s.members[i].Measures.Latency = 2 * time.Millisecond
	}
	s.after(0)
	s.member("c").Measures.Latency = 20 * time.Millisecond
	s.after(0)
	s.expect(t, "a:up 1.00, b:up 1.00, c:up 0.25, d:up 1.00, e:up 1.00") // (2 x 2 + 1) / 20
	if d, _ := s.group.Decision("c"); d.Reasons() != "latency 0.25" || d.Score != 0.25 {
		t.Errorf("%q, score %v", d.Reasons(), d.Score)
	}
	// Half a millisecond is nothing, whatever the proportion.
	for i := range s.members {
		s.members[i].Measures.Latency = 20 * time.Microsecond
	}
	s.member("c").Measures.Latency = 500 * time.Microsecond
	s.after(0)
	s.expect(t, "a:up 1.00, b:up 1.00, c:up 1.00, d:up 1.00, e:up 1.00")
}

func TestNoiseDoesNotChangeWeights(t *testing.T) {
	s := newSite("abc")
	s.member("a").Measures.Success = 0.8
	s.after(0)
	s.expect(t, "a:up 0.80, b:up 1.00, c:up 1.00")
	for _, success := range []float64{0.71, 0.89, 0.75, 0.85, 0.8} {
		s.member("a").Measures.Success = success
		if s.after(0) > 0 {
			t.Errorf("success %v changes %s", success, s.states())
		}
	}
	s.member("a").Measures.Success = 0.99
	s.after(0)
	s.expect(t, "a:up 1.00, b:up 1.00, c:up 1.00")
}

// handshakes gives each member some handshakes of which a share failed.
func (s *site) handshakes(failed ...float64) {
	for i, share := range failed {
		s.members[i].Measures.Handshakes = Handshakes{Seen: 100, Failed: share}
	}
	s.after(0)
}

func TestOutliersAreEjected(t *testing.T) {
	s := newSite("abcd")
	s.policy.SlowStart = 0
	s.handshakes(0.9, 0, 0, 0.9)
	// The cap of a tenth of four is one.
	s.expect(t, "a:draining 0.00, b:up 1.00, c:up 1.00, d:up 0.10")
	s.member("a").Measures.Handshakes = Handshakes{}
	s.member("d").Measures.Handshakes = Handshakes{}
	s.after(ejectionPause + time.Second)
	s.expect(t, "a:up 1.00, b:up 1.00, c:up 1.00, d:up 1.00")
	s.policy.MaxEjected = 0.5
	s.handshakes(0.9, 0, 0, 0.9)
	s.expect(t, "a:draining 0.00, b:up 1.00, c:up 1.00, d:draining 0.00")
	s.handshakes(0, 0, 0, 0)
	s.after(ejectionPause + time.Second)
	s.expect(t, "a:draining 0.00, b:up 1.00, c:up 1.00, d:up 1.00") // the second time takes a minute
	s.policy.MaxEjected = 0
	s.after(ejectionPause)
	s.handshakes(0.9, 0, 0, 0)
	if d, _ := s.group.Decision("a"); d.State != Up {
		t.Errorf("ejected though none may be: %s", s.states())
	}
}

// What fails everywhere, as in a flood of SYNs, is no backend's fault.
func TestCommonFailuresEjectNobody(t *testing.T) {
	s := newSite("abc")
	s.handshakes(0.9, 0.95, 0.9)
	if got := s.states(); strings.Contains(got, "draining") || strings.Contains(got, "down") {
		t.Error(got)
	}
	s.handshakes(0.9, 0.9, 0.9)
	s.expect(t, "a:up 1.00, b:up 1.00, c:up 1.00")
}

func TestEjectionKeepsTheMinimum(t *testing.T) {
	s := newSite("abc")
	s.policy.Minimum, s.policy.MaxEjected = 3, 1
	s.handshakes(0.9, 0, 0)
	if got := s.states(); strings.Contains(got, "draining") {
		t.Error(got)
	}
}

func TestAgentsAreHeard(t *testing.T) {
	s := newSite("ab")
	s.policy.SlowStart = 0
	s.member("a").Measures.Load = load.Report{Admin: load.Drain}
	s.after(0)
	s.expect(t, "a:draining 0.00, b:up 1.00")
	s.member("b").Measures.Load = load.Report{Admin: load.Drain}
	s.after(0)
	if s.group.Panicked() {
		t.Error("it panics though the backends want no flows")
	}
}

// What a backend says of its load makes its share smaller, never larger than configured.
func TestReportedLoadCounts(t *testing.T) {
	s := newSite("abc")
	s.member("a").Measures.Load = load.Report{Weight: new(0.5), Load: new(0.2)}
	s.member("b").Measures.Load = load.Report{Weight: new(2.0)}
	s.member("c").Measures.Load = load.Report{Load: new(1.5)}
	s.after(0)
	s.expect(t, "a:up 0.40, b:up 1.00, c:up 0.05")
}

// Flows go where they are wanted: a backend that declines them itself is replaced as one that is down is.
func TestDecliningBackendIsReplaced(t *testing.T) {
	s := newSite("abc")
	s.policy.SlowStart = 0
	s.member("b").Wish, s.member("c").Wish = Standby, Standby
	s.member("a").Measures.Load = load.Report{Admin: load.Drain}
	s.member("b").Measures.Load = load.Report{Admin: load.Maint}
	s.after(0)
	s.expect(t, "a:draining 0.00, b:draining 0.00, c:up 1.00")

	s = newSite("ab")
	s.member("a").Measures.Load = load.Report{Admin: load.Drain}
	s.fail("b")
	s.expect(t, "a:draining 0.00, b:down 1.00") // panic, but not for the one that says no
}

func TestEjectedReturnBelowTheMinimum(t *testing.T) {
	s := newSite("abc")
	s.policy.SlowStart, s.policy.Minimum, s.policy.MaxEjected = 0, 2, 0.5
	s.handshakes(0.9, 0, 0)
	s.expect(t, "a:draining 0.00, b:up 1.00, c:up 1.00")
	s.fail("b")
	s.expect(t, "a:up 0.10, b:down 0.00, c:up 1.00")
	s.recover("b")
	s.after(0)
	s.expect(t, "a:draining 0.00, b:up 1.00, c:up 1.00")
}

// Each change of state has the cause that led to it, also when nothing new happened to the verdict.
func TestCausesOfUp(t *testing.T) {
	s := newSite("abcd")
	cause := func(name string) string {
		d, _ := s.group.Decision(name)
		return string(d.State) + ": " + d.Cause
	}
	expect := func(name, want string) {
		t.Helper()
		if got := cause(name); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	s.fail("a")
	s.recover("a")
	expect("a", "up: 2 of 2 probes succeeded")
	s.member("a").Measures.Load = load.Report{Admin: load.Drain}
	s.after(0)
	s.member("a").Measures.Load = load.Report{Admin: load.Ready}
	s.after(0)
	expect("a", "up: no longer: its agent says drain")
	s.after(time.Second)
	expect("a", "up: no longer: its agent says drain")
	s.member("a").Wish = Down
	s.after(0)
	s.member("a").Wish = Up
	s.after(0)
	expect("a", "up: as wished")
	s.handshakes(0.9, 0, 0, 0)
	s.handshakes(0, 0, 0, 0)
	ejected := strings.TrimPrefix(cause("a"), "draining: ")
	s.after(ejectionPause + time.Second)
	expect("a", "up: no longer: "+ejected)
	s.fail("b")
	s.recover("b")
	s.fail("b")
	s.recover("b")
	held := strings.TrimPrefix(cause("b"), "down: ")
	s.after(s.policy.Damping + time.Second)
	expect("b", "up: no longer: "+held)
}

// A panic does not hold up the slow start of those that came back before it.
func TestSlowStartEndsInPanic(t *testing.T) {
	s := newSite("abc")
	s.policy.PanicThreshold = 0.5
	s.fail("a")
	s.after(time.Second)
	s.recover("a")
	s.fail("b")
	s.fail("c")
	s.after(2 * s.policy.SlowStart)
	if d, _ := s.group.Decision("a"); !s.group.Panicked() || d.SlowStart || d.Factor != 1 {
		t.Errorf("panicked %v, and a is %+v", s.group.Panicked(), d)
	}
}
