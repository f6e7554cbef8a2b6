package control

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// groups are the backends of a service by their set.
type groups map[string]*health.Group[netip.AddrPort]

// judgement is what was decided about a service.
type judgement struct {
	backends []health.Decision // in the order of the desired state
	panicked map[string]bool   // sets of which too few are up, so all are used
}

// update decides anew about the backends of a service, of which look tells what is known. Returns what changed, and the sets
// of which all backends are used from now on or not any more.
func (g groups) update(s *Service, defaults Health, now time.Time, look func(*Backend) (health.Verdict, health.Measures)) (changes changes) {
	members := make(map[string][]health.Member[netip.AddrPort])
	for i := range s.Backends {
		b := &s.Backends[i]
		m := health.Member[netip.AddrPort]{Key: b.place(), Wish: b.State, Weighted: *b.Weight > 0}
		m.Verdict, m.Measures = look(b)
		members[b.Set] = append(members[b.Set], m)
	}
	policy := s.Health.policy(defaults)
	for set := range g {
		if members[set] == nil {
			delete(g, set)
		}
	}
	for set, of := range members {
		group := g[set]
		if group == nil {
			group = new(health.Group[netip.AddrPort])
			g[set] = group
		}
		panicked := group.Panicked()
		changes.backends = append(changes.backends, group.Update(now, policy, of)...)
		if group.Panicked() != panicked {
			changes.panics = append(changes.panics, panicChange{set, !panicked})
		}
	}
	return changes
}

// changes are how a judgement differs from the one before.
type changes struct {
	backends []health.Change[netip.AddrPort]
	panics   []panicChange
}

type panicChange struct {
	set string
	on  bool
}

func (c changes) any() bool { return len(c.backends)+len(c.panics) > 0 }

// judgement is the latest one; a backend that was not judged yet is as wished.
func (g groups) judgement(s *Service) judgement {
	j := judgement{backends: make([]health.Decision, len(s.Backends)), panicked: make(map[string]bool)}
	for i := range s.Backends {
		b := &s.Backends[i]
		j.backends[i] = health.Decision{State: b.State, Score: 1}
		if b.State == StateUp {
			j.backends[i].Factor = 1
		}
		if group := g[b.Set]; group != nil {
			if known, ok := group.Decision(b.place()); ok {
				j.backends[i] = known
			}
			j.panicked[b.Set] = group.Panicked()
		}
	}
	return j
}

// judge decides anew about a service and tells what changed. Returns whether the kernel is to follow. r.mu must be held.
func (r *reconciler) judge(s *Service, now time.Time) bool {
	g := r.groups[s.Key()]
	if g == nil {
		g = make(groups)
		r.groups[s.Key()] = g
	}
	changes := g.update(s, r.defaults.Health, now, func(b *Backend) (health.Verdict, health.Measures) {
		return r.monitor.Look(target{s.Key(), b.place()})
	})
	r.journal.note(s, changes)
	if g.wait() {
		r.waits[s.Key()] = true
	} else {
		delete(r.waits, s.Key())
	}
	return changes.any()
}

// wait says that a decision may change by time alone.
func (g groups) wait() bool {
	for _, group := range g {
		if group.Waits() {
			return true
		}
	}
	return false
}

// up counts the backends of a service that are up.
func (r *reconciler) up(s *Service) (up int) {
	for _, d := range r.evaluate(s).backends {
		if d.State == StateUp {
			up++
		}
	}
	return up
}

// measures returns what is known of the health of a backend.
func (r *reconciler) measures(s *Service, b *Backend) health.Measures {
	_, m := r.monitor.Look(target{s.Key(), b.place()})
	return m
}

// judgeAll has those services looked at whose backends get other weights by now. Where nothing is known anew, and no
// decision waits for its time, there are none.
func (r *reconciler) judgeAll() {
	now := time.Now()
	for key := range r.unsettled() {
		r.judgeNow(key, now)
	}
}

// unsettled are the services of which decisions may be others than the last time.
func (r *reconciler) unsettled() map[dataplane.ServiceKey]bool {
	keys := make(map[dataplane.ServiceKey]bool)
	for _, t := range r.monitor.Touched() {
		keys[t.service] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(keys, r.waits)
	return keys
}

// judgeNow has a service looked at if its backends get other weights: after those of which a verdict or the wish has
// changed, since clients and people wait for these.
func (r *reconciler) judgeNow(key dataplane.ServiceKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.wanted[key]; s != nil && r.judge(s, now) {
		r.pending.pushLast(key)
	}
}

// evaluation is a service as the kernel is told, by the latest judgement.
type evaluation struct {
	judgement
	service dataplane.Service
}

// evaluate says what the kernel should do for a service now.
func (r *reconciler) evaluate(s *Service) evaluation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.evaluate(r.groups[s.Key()].judgement(s))
}

func (s *Service) evaluate(j judgement) evaluation {
	e := evaluation{judgement: j, service: dataplane.Service{
		ServiceKey: s.Key(), Mode: *s.Mode,
		Hash: s.Hash, ClampMSS: s.ClampMSS, QUIC: s.QUIC, Limit: s.Limit, Policy: s.Policy, Tracking: s.Tracking, Sources: s.Sources,
	}}
	for i := range s.Backends {
		b := &s.Backends[i]
		e.service.Backends = append(e.service.Backends, b.effective(j.backends[i], j.panicked[b.Set]))
	}
	return e
}

// weightScale makes room for the shares of small weights: the kernel's weights are in 64ths of the configured ones.
const weightScale = 64

// effective is a backend as the kernel is told.
func (b *Backend) effective(d health.Decision, panicked bool) dataplane.Backend {
	effective := dataplane.Backend{
		Address: b.Address, Port: b.Port, Set: b.Set, ServerID: b.ServerID,
		Down: d.State == StateDown && !(panicked && b.State == StateUp),
	}
	if d.Factor > 0 && *b.Weight > 0 && !effective.Down {
		effective.Weight = uint16(max(1, math.Round(float64(*b.Weight)*weightScale*d.Factor)))
	}
	return effective
}

// serviceState says how well a service does as a whole.
func (e evaluation) serviceState(s *Service, failure error, unresolved bool) ServiceState {
	serving := make(map[string]bool) // each set, whether it does
	lost := false
	for i, b := range e.service.Backends {
		serving[b.Set] = serving[b.Set] || b.Weight > 0 && !b.Down
		lost = lost || s.Backends[i].State == StateUp && e.backends[i].State != StateUp
	}
	switch {
	case failure != nil, len(s.Backends) == 0, slices.Contains(slices.Collect(maps.Values(serving)), false):
		return ServiceFailed
	case slices.Contains(slices.Collect(maps.Values(e.panicked)), true):
		return ServicePanic
	case lost || unresolved:
		return ServiceDegraded
	}
	return ServiceOK
}
