package control

import (
	"context"
	"errors"
	"log/slog"
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
// It looks at what is and what should be, never at what happened. Safe for concurrent use.
type reconciler struct {
	kernel   kernel
	defaults Defaults
	log      *slog.Logger
	prober   *health.Prober[target]

	mu      sync.Mutex
	wanted  map[dataplane.ServiceKey]*Service
	pending map[dataplane.ServiceKey]bool
	all     bool // compare everything
	failed  map[dataplane.ServiceKey]error
	down    map[target]bool // by the kernel when the daemon started
	stretch int             // by how much intervals are longer than wished
	waiting []chan struct{} // closed when nothing is pending any more
	wake    chan struct{}
}

// newReconciler returns one that does nothing before run.
func newReconciler(k kernel, defaults Defaults, log *slog.Logger, options health.Options) *reconciler {
	r := &reconciler{
		kernel:   k,
		defaults: defaults,
		log:      log,
		wanted:   make(map[dataplane.ServiceKey]*Service),
		pending:  make(map[dataplane.ServiceKey]bool),
		all:      true,
		failed:   make(map[dataplane.ServiceKey]error),
		down:     make(map[target]bool),
		wake:     make(chan struct{}, 1),
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
// looked at.
func (r *reconciler) want(m Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[dataplane.ServiceKey]*Service, len(m.Services))
	for i := range m.Services {
		s := &m.Services[i]
		next[s.Key()] = s
		if old := r.wanted[s.Key()]; old == nil || !old.equal(s) {
			r.pending[s.Key()] = true
		}
	}
	for key := range r.wanted {
		if next[key] == nil {
			r.pending[key] = true
		}
	}
	r.wanted = next
	r.prober.Set(r.targets())
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
	verdict := r.prober.Verdict(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.wanted[t.service]
	if s == nil {
		return
	}
	r.pending[t.service] = true
	r.signal()
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

// settled waits until the kernel has been brought to the state that was last wanted, or refused it.
func (r *reconciler) settled(ctx context.Context) {
	r.mu.Lock()
	done := make(chan struct{})
	r.waiting = append(r.waiting, done)
	r.signal()
	r.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// run reconciles until ctx ends.
func (r *reconciler) run(ctx context.Context) {
	defer r.prober.Close()
	compare := time.NewTicker(compareInterval)
	defer compare.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	delay := firstRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-compare.C:
			r.again(true)
		case <-retry.C:
			r.again(false)
		case <-r.wake:
		}
		if r.pass() {
			delay = firstRetry
			continue
		}
		retry.Reset(delay)
		delay = min(2*delay, compareInterval)
	}
}

// again marks everything, or what failed, to be looked at.
func (r *reconciler) again(all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = r.all || all
	for key := range r.failed {
		r.pending[key] = true
	}
}

// pass looks at what is pending. It returns whether the kernel took everything.
func (r *reconciler) pass() bool {
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = nil
	if r.all {
		r.all = false
		for _, s := range r.kernel.Services() {
			r.pending[s.ServiceKey] = true
		}
		for key := range r.wanted {
			r.pending[key] = true
		}
	}
	keys := make([]dataplane.ServiceKey, 0, len(r.pending))
	for key := range r.pending {
		keys = append(keys, key)
	}
	clear(r.pending)
	r.mu.Unlock()

	for _, key := range keys {
		r.reconcile(key)
	}
	for _, done := range waiting {
		close(done)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) == 0
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

// evaluation is a service with the states that its backends have by wish and by health.
type evaluation struct {
	service  dataplane.Service
	backends []condition // in the order of the desired state
	panicked bool        // all are unhealthy, so all are used
}

// condition is the state of a backend and why.
type condition struct {
	state State
	cause string
	since time.Time
}

// evaluate says what the kernel should do for a service now. When every backend that should take flows is
// unhealthy, all of them do: a slow answer is better than none.
func (r *reconciler) evaluate(s *Service) evaluation {
	e := evaluation{
		service:  dataplane.Service{ServiceKey: s.Key(), Mode: *s.Mode},
		backends: make([]condition, len(s.Backends)),
	}
	usable, healthy := 0, 0
	for i := range s.Backends {
		b := &s.Backends[i]
		c := r.condition(s.Key(), b)
		e.backends[i] = c
		if b.State == StateUp && *b.Weight > 0 {
			usable++
			if c.state == StateUp {
				healthy++
			}
		}
	}
	e.panicked = usable > 0 && healthy == 0
	for i := range s.Backends {
		e.service.Backends = append(e.service.Backends, s.Backends[i].effective(e.backends[i], e.panicked))
	}
	return e
}

// effective is a backend as the kernel is told.
func (b *Backend) effective(c condition, panicked bool) dataplane.Backend {
	effective := dataplane.Backend{Address: b.Address, Port: b.Port, Down: c.state == StateDown}
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
	serving := slices.ContainsFunc(e.service.Backends, func(b dataplane.Backend) bool { return b.Weight > 0 && !b.Down })
	lost := false
	for i := range s.Backends {
		lost = lost || s.Backends[i].State == StateUp && e.backends[i].state != StateUp
	}
	switch {
	case failure != nil && !errors.Is(failure, context.Canceled), len(s.Backends) > 0 && !serving:
		return ServiceFailed
	case e.panicked:
		return ServicePanic
	case lost || unresolved:
		return ServiceDegraded
	}
	return ServiceOK
}
