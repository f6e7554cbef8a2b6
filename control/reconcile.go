package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// kernel is what the reconciler needs of the dataplane.
type kernel interface {
	SetService(dataplane.Service) error
	RemoveService(dataplane.ServiceKey) error
	Services() []dataplane.Service
}

const (
	// Everything is compared this often, whatever events said.
	compareInterval = 30 * time.Second
	// A service that the kernel refused is tried again after this time, doubled each time up to
	// compareInterval.
	firstRetry = time.Second
	// No more probes than this are sent in a second, at about 100 µs of a processor each: the intervals of
	// very many backends are stretched.
	probeBudget = 2000
)

// target is a backend of a service, as the prober knows it.
type target struct {
	service dataplane.ServiceKey
	backend netip.AddrPort
}

// reconciler makes the kernel match the desired state and the verdicts on the backends, service by service.
// It looks at what is and what should be, never at what happened. A verdict overtakes everything else that
// waits, because clients wait for it. Safe for concurrent use.
type reconciler struct {
	kernel   kernel
	defaults Defaults
	log      *slog.Logger
	prober   *health.Prober[target]
	wake     chan struct{}
	stopped  chan struct{} // closed when run returns

	mu      sync.Mutex
	wanted  map[dataplane.ServiceKey]*Service
	pending queue
	failed  map[dataplane.ServiceKey]error
	stretch int             // of the intervals of probes
	down    map[target]bool // by the kernel when the daemon started, until the first want
	waiting []chan struct{} // closed when nothing is pending any more
}

// newReconciler returns one that does nothing before run.
func newReconciler(k kernel, defaults Defaults, log *slog.Logger, options health.Options) *reconciler {
	r := &reconciler{
		kernel:   k,
		defaults: defaults,
		log:      log,
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		wanted:   make(map[dataplane.ServiceKey]*Service),
		failed:   make(map[dataplane.ServiceKey]error),
		down:     make(map[target]bool),
	}
	for _, s := range k.Services() {
		for _, b := range s.Backends {
			if b.Down {
				r.down[target{s.ServiceKey, netip.AddrPortFrom(b.Address, b.Port)}] = true
			}
		}
	}
	r.prober = health.New(options, r.verdictChanged)
	return r
}

// want takes a new desired state; its services are not modified by anybody. Only those that differ are
// looked at, first those that go, because they make room.
func (r *reconciler) want(m Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[dataplane.ServiceKey]*Service, len(m.Services))
	for i := range m.Services {
		next[m.Services[i].Key()] = &m.Services[i]
	}
	for i := range m.Services {
		s := &m.Services[i]
		if old := r.wanted[s.Key()]; old == nil || !old.equal(s) {
			r.pending.push(s.Key())
		}
	}
	for key := range r.wanted {
		if next[key] == nil {
			r.pending.pushFirst(key)
		}
	}
	r.wanted = next
	r.prober.Set(r.targets())
	clear(r.down)
	r.signal()
}

// targets lists what is to be probed. r.mu must be held.
func (r *reconciler) targets() map[target]health.Target {
	targets := make(map[target]health.Target)
	for key, s := range r.wanted {
		probe := s.probe(r.defaults)
		if probe.Type != ProbeTCP {
			continue
		}
		for i := range s.Backends {
			b := &s.Backends[i]
			if b.State == StateDown {
				continue
			}
			port := probe.Port
			if port == 0 {
				port = b.Port
			}
			t := target{key, b.place()}
			targets[t] = health.Target{
				Address:  netip.AddrPortFrom(b.Address, port),
				Interval: time.Duration(probe.Interval),
				Timeout:  time.Duration(probe.Timeout),
				Rise:     probe.Rise,
				Fall:     probe.Fall,
				Down:     r.down[t],
			}
		}
	}
	r.stretch = stretch(targets)
	for t, each := range targets {
		each.Interval *= time.Duration(r.stretch)
		targets[t] = each
	}
	return targets
}

// stretch is the factor that brings the targets' probes within the budget. It is a power of two, so that
// one backend more or less seldom changes it, which restarts every probe.
func stretch(targets map[target]health.Target) int {
	perSecond := 0.0
	for _, each := range targets {
		perSecond += float64(time.Second) / float64(each.Interval)
	}
	factor := 1
	for perSecond > float64(factor)*probeBudget {
		factor *= 2
	}
	return factor
}

// stretched returns by what factor the intervals of probes are longer than wished; 1 is not at all.
func (r *reconciler) stretched() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stretch
}

func (r *reconciler) verdictChanged(t target) {
	r.mu.Lock()
	s := r.wanted[t.service]
	if s != nil {
		r.pending.pushFirst(t.service)
		r.signal()
	}
	r.mu.Unlock()
	if s == nil {
		return
	}
	verdict := r.prober.Verdict(t)
	for i := range s.Backends {
		if b := &s.Backends[i]; b.place() == t.backend {
			r.log.Info("backend changed", "service", s.Name, "backend", b.Name, "up", verdict.Up, "cause", verdict.Cause)
		}
	}
}

func (r *reconciler) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// settled waits until the kernel has been brought to the state that was last wanted, or refused it, or
// until the reconciler ends.
func (r *reconciler) settled(ctx context.Context) {
	done := make(chan struct{})
	r.mu.Lock()
	r.waiting = append(r.waiting, done)
	r.signal()
	r.mu.Unlock()
	select {
	case <-done:
	case <-r.stopped:
	case <-ctx.Done():
	}
}

// run reconciles until ctx ends.
func (r *reconciler) run(ctx context.Context) {
	defer r.prober.Close()
	defer close(r.stopped)
	compare := time.NewTicker(compareInterval)
	defer compare.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	<-retry.C
	delay, retrying := firstRetry, false
	r.compareAll()
	for {
		for key, ok := r.next(); ok && ctx.Err() == nil; key, ok = r.next() {
			r.reconcile(key)
		}
		switch failing := r.failing(); {
		case !failing:
			delay = firstRetry
		case !retrying:
			retry.Reset(delay)
			delay, retrying = min(2*delay, compareInterval), true
		}
		select {
		case <-ctx.Done():
			return
		case <-compare.C:
			r.compareAll()
		case <-retry.C:
			retrying = false
			r.retryFailed()
		case <-r.wake:
		}
	}
}

// compareAll has everything looked at that is in the kernel or should be, first what should not.
func (r *reconciler) compareAll() {
	held := r.kernel.Services()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.wanted {
		r.pending.push(key)
	}
	r.pushFailed()
	for _, s := range held {
		if r.wanted[s.ServiceKey] == nil {
			r.pending.pushFirst(s.ServiceKey)
		}
	}
}

func (r *reconciler) retryFailed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushFailed()
}

// pushFailed has everything looked at that the kernel refused. r.mu must be held.
func (r *reconciler) pushFailed() {
	for key := range r.failed {
		r.pending.push(key)
	}
}

// next returns what to look at. When that is nothing it tells those who wait.
func (r *reconciler) next() (dataplane.ServiceKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.pending.pop()
	if !ok {
		for _, done := range r.waiting {
			close(done)
		}
		r.waiting = nil
	}
	return key, ok
}

// reconcile brings one service to the kernel.
func (r *reconciler) reconcile(key dataplane.ServiceKey) {
	r.mu.Lock()
	s := r.wanted[key]
	r.mu.Unlock()
	var err error
	if s == nil {
		err = r.kernel.RemoveService(key)
	} else {
		err = r.kernel.SetService(r.evaluate(s).service)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.failed, key)
		return
	}
	if old := r.failed[key]; old == nil || old.Error() != err.Error() {
		r.log.Error("the kernel does not serve a service as desired; trying again", "service", key, "error", err)
	}
	r.failed[key] = err
}

// failure returns why the kernel refused a service, or nil.
func (r *reconciler) failure(key dataplane.ServiceKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[key]
}

func (r *reconciler) failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) > 0
}

// remains returns why the kernel keeps services that nobody wants, sorted.
func (r *reconciler) remains() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems []string
	for key, err := range r.failed {
		if r.wanted[key] == nil {
			problems = append(problems, fmt.Sprintf("%s cannot be removed: %v", key, err))
		}
	}
	slices.Sort(problems)
	return problems
}

// evaluation is a service with the states that its backends have by wish and by health.
type evaluation struct {
	service  dataplane.Service
	backends []condition     // in the order of the desired state
	panicked map[string]bool // sets of which all are unhealthy, so all are used
}

// condition is the state of a backend and why.
type condition struct {
	state State
	cause string
	since time.Time
}

// evaluate says what the kernel should do for a service now. When every backend of a set that should take flows
// is unhealthy, all of them do: a slow answer is better than none.
func (r *reconciler) evaluate(s *Service) evaluation {
	e := evaluation{
		service: dataplane.Service{
			ServiceKey: s.Key(), Mode: *s.Mode,
			Hash: s.Hash, ClampMSS: s.ClampMSS, QUIC: s.QUIC, Limit: s.Limit, Policy: s.Policy, Tracking: s.Tracking, Sources: s.Sources,
		},
		backends: make([]condition, len(s.Backends)),
		panicked: make(map[string]bool),
	}
	usable, healthy := make(map[string]int), make(map[string]int)
	for i := range s.Backends {
		b := &s.Backends[i]
		c := r.condition(s.Key(), b)
		e.backends[i] = c
		if b.State == StateUp && *b.Weight > 0 {
			usable[b.Set]++
			if c.state == StateUp {
				healthy[b.Set]++
			}
		}
	}
	for set := range usable {
		if healthy[set] == 0 {
			e.panicked[set] = true
		}
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		e.service.Backends = append(e.service.Backends, b.effective(e.backends[i], e.panicked[b.Set]))
	}
	return e
}

// effective is a backend as the kernel is told.
func (b *Backend) effective(c condition, panicked bool) dataplane.Backend {
	effective := dataplane.Backend{
		Address: b.Address, Port: b.Port, Down: c.state == StateDown, Set: b.Set, ServerID: b.ServerID,
	}
	if panicked && b.State == StateUp {
		effective.Down = false
	}
	if b.State == StateUp && !effective.Down {
		effective.Weight = uint16(*b.Weight)
	}
	return effective
}

func (r *reconciler) condition(key dataplane.ServiceKey, b *Backend) condition {
	if b.State == StateDown {
		return condition{state: StateDown, cause: "as wished"}
	}
	verdict := r.prober.Verdict(target{key, b.place()})
	c := condition{state: b.State, cause: verdict.Cause, since: verdict.Since}
	if b.State == StateDraining {
		c.cause = "as wished"
	}
	if !verdict.Up {
		c.state, c.cause = StateDown, verdict.Cause
	}
	return c
}

// serviceState says how well a service does as a whole.
func (e evaluation) serviceState(s *Service, failure error, unresolved bool) ServiceState {
	serving := make(map[string]bool) // each set, whether it does
	lost := false
	for i, b := range e.service.Backends {
		serving[b.Set] = serving[b.Set] || b.Weight > 0 && !b.Down
		lost = lost || s.Backends[i].State == StateUp && e.backends[i].state != StateUp
	}
	switch {
	case failure != nil, len(s.Backends) == 0, slices.Contains(slices.Collect(maps.Values(serving)), false):
		return ServiceFailed
	case len(e.panicked) > 0:
		return ServicePanic
	case lost || unresolved:
		return ServiceDegraded
	}
	return ServiceOK
}
