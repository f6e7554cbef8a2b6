package failover

import (
	"slices"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/control"
)

// margin is what is added to every bound: these are bounds of correctness, on a machine that may be busy with other things.
const margin = time.Second

// conduct is what is done to a backend now, and what is wished of it.
type conduct struct {
	name string
	wish wish
	// changing is true while one of both is being changed.
	changing bool
	fault    Fault
	changed  time.Time // the latest change, but of one weight to another
	hurt     time.Time // when the latest fault began
	held     time.Time // damping may keep it out until then
}

// dead says that a backend serves nobody.
func (c conduct) dead() bool { return c.fault != "" && c.fault != Slow && c.fault != Loss }

// rules are the regime and since when it holds.
type rules struct {
	regime
	timing  health.Timing
	changed time.Time
	damped  time.Time // when damping was last on
	ejected time.Time // when ejection was last on
}

// detected is when at the latest a backend must be out that is dead.
func (r rules) detected(c conduct) time.Time {
	return later(c.changed, r.changed).Add(r.notices() + margin)
}

// notices is how long a failure takes to be noticed at most: a probe that was answered just before and the pause after it,
// the one that is not and the first that confirms it, which follows when it is late, and the last.
func (r rules) notices() time.Duration {
	return 2*r.timing.Interval + 2*r.timing.Timeout + time.Duration(r.timing.Fall)*r.timing.Confirm
}

// recovered is when at the latest a backend must be in that is healthy. A probe that is under way may fail yet.
func (r rules) recovered(c conduct) time.Time {
	in := later(c.changed, r.changed).Add(r.timing.Timeout + time.Duration(r.timing.Rise)*r.timing.Interval + margin)
	return later(in, c.held)
}

// averaged is how long what was measured before may still count: four time constants of brain/health's averages.
func (r rules) averaged() time.Duration {
	return 4*max(10*r.timing.Interval, 500*time.Millisecond) + margin/2
}

// in says that a backend has to be in at a time.
func (r rules) in(c conduct, now time.Time) bool {
	return !c.changing && c.fault == "" && c.wish.state == control.StateUp && now.After(r.recovered(c))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// model is what is true about the backends. It is safe for concurrent use.
type model struct {
	mu       sync.Mutex
	rules    rules
	conducts []conduct
	troubles map[string][]trouble
	stalls   []trouble            // of the machine
	wrongs   map[string]time.Time // when a backend was last taken for dead in one
}

// trouble is a time in which the flows of a backend may break.
type trouble struct {
	from, to time.Time // to is zero while it lasts
	fault    Fault     // or "" when it is wished
}

func newModel(r regime, names []string) *model {
	now := time.Now()
	m := &model{rules: rules{regime: r, timing: r.timing(), changed: now}, troubles: make(map[string][]trouble), wrongs: make(map[string]time.Time)}
	for _, name := range names {
		m.conducts = append(m.conducts, conduct{name: name, wish: wish{control.StateUp, control.DefaultWeight}, changed: now})
	}
	return m
}

// look returns a copy of what is true now.
func (m *model) look() (rules, []conduct) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(time.Now())
	return m.rules, slices.Clone(m.conducts)
}

// note keeps in mind what is on now. m.mu must be held.
func (m *model) note(now time.Time) {
	if m.rules.damping > 0 {
		m.rules.damped = now
	}
	if m.rules.ejecting {
		m.rules.ejected = now
	}
}

// change notes a deed: what was is not true any more when do begins, and what is to be is true when it has ended.
func (m *model) change(d deed, do func() error) error {
	m.begin(d)
	err := do()
	m.end(d)
	return err
}

func (m *model) begin(d deed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.note(now)
	if d.subject == everyone {
		m.rules.changed = now
		return
	}
	c := &m.conducts[d.subject]
	c.changing = true
	switch what := d.what.(type) {
	case Fault:
		if what != "" {
			c.hurt = now
			m.troubles[c.name] = append(m.troubles[c.name], trouble{from: now, fault: what})
		}
	case wish:
		if what.state == control.StateDown || what.state == "" {
			m.troubles[c.name] = append(m.troubles[c.name], trouble{from: now})
		}
	}
}

func (m *model) end(d deed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.note(now)
	if r, ok := d.what.(regime); ok {
		m.rules.regime, m.rules.timing, m.rules.changed = r, r.timing(), now
		m.note(now)
		for i := range m.conducts { // one that is on its way back is judged by this already
			if c := &m.conducts[i]; now.Before(m.rules.recovered(*c)) {
				c.hold(m.rules, now)
			}
		}
		return
	}
	c := &m.conducts[d.subject]
	c.changing = false
	switch what := d.what.(type) {
	case Fault:
		c.fault, c.changed = what, now
		if what == "" {
			c.hold(m.rules, now)
			m.over(c.name, now, true)
		}
	case wish:
		if what.state != c.wish.state || what.weight == 0 || c.wish.weight == 0 {
			c.changed = now
		}
		c.wish = what
		if what.state == control.StateUp {
			m.over(c.name, now, false)
		}
	}
}

// hold notes how long damping keeps a backend out at most that failed last at a time: ten times its first length.
func (c *conduct) hold(r rules, failed time.Time) {
	if !c.hurt.IsZero() && !r.damped.Before(c.hurt) {
		c.held = later(c.held, failed.Add(10*mostDamping+margin))
	}
}

// stall notes that the machine stood still from a time on. Returns whether it was for so long that probes may have failed:
// they have half of the shortest timeout for their way at least.
func (m *model) stall(from time.Time, length time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if length < m.rules.timing.Floor/2 {
		return false
	}
	if length > margin/4 { // what has to happen within a time begins anew
		m.rules.changed = later(m.rules.changed, from.Add(length))
	}
	m.stalls = append(m.stalls, trouble{from: from, to: from.Add(length), fault: Stop})
	return true
}

// wronged takes that a backend was taken for dead at a time in which it was in no trouble. Says whether the machine stalled
// then and that was not known, which is as if that backend had stalled.
func (m *model) wronged(name string, at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wrongs[name].Before(at) || m.inTrouble(name, at, at) {
		return false // is known
	}
	noticed := m.rules.timing.Interval + m.rules.timing.Timeout + 500*time.Millisecond
	for _, t := range m.stalls {
		if t.from.After(at) || t.to.Add(noticed).Before(at) {
			continue
		}
		t.to = later(t.to, at)
		m.wrongs[name] = at
		m.troubles[name] = append(m.troubles[name], t)
		c := &m.conducts[m.index(name)]
		c.changed, c.hurt = later(c.changed, at), later(c.hurt, t.from)
		c.hold(m.rules, at)
		return true
	}
	return false
}

func (m *model) index(name string) int {
	return slices.IndexFunc(m.conducts, func(c conduct) bool { return c.name == name })
}

// over ends the trouble of one kind. m.mu must be held.
func (m *model) over(name string, now time.Time, faults bool) {
	for i := range m.troubles[name] {
		t := &m.troubles[name][i]
		if t.to.IsZero() && faults == (t.fault != "") {
			t.to = now
		}
	}
}

// troubled says whether a backend was in trouble at any time from one moment to another. A verdict may follow when a fault is
// over already, and damping keep it out: in a panic it has flows then, until that ends.
func (m *model) troubled(name string, from, to time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inTrouble(name, from, to)
}

// inTrouble is troubled while m.mu is held.
func (m *model) inTrouble(name string, from, to time.Time) bool {
	settle := m.rules.notices() + margin
	held := m.conducts[m.index(name)].held
	for _, t := range m.troubles[name] {
		if t.fault != Slow && !t.from.After(to) && (t.to.IsZero() || later(t.to.Add(settle), held).After(from)) {
			return true
		}
	}
	return false
}
