package control

import (
	"context"
	"fmt"
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
	Packets() uint64
	ProbeMark(dataplane.ServiceKey, netip.AddrPort) (uint32, error)
	ProbeSource(dataplane.ServiceKey, netip.AddrPort) (netip.Addr, error)
}

const (
	// Everything is compared this often, whatever events said.
	compareInterval = 30 * time.Second
	// A service that the kernel refused is tried again after this time, doubled each time up to
	// compareInterval.
	firstRetry = time.Second
	// What is measured of the backends changes their weights this often; verdicts take effect at once.
	judgeInterval = 250 * time.Millisecond
)

// target is a backend of a service, as the prober knows it.
type target struct {
	service dataplane.ServiceKey
	backend netip.AddrPort
}

// String returns for example "10.1.0.11:80 of 10.0.0.1:80/tcp".
func (t target) String() string { return fmt.Sprintf("%s of %s", t.backend, t.service) }

// reconciler makes the kernel match the desired state and the verdicts on the backends, service by service.
// It looks at what is and what should be, never at what happened. A verdict overtakes everything else that
// waits, because clients wait for it. Safe for concurrent use.
type reconciler struct {
	kernel   kernel
	defaults Defaults
	budget   *budget
	log      *slog.Logger
	monitor  *health.Monitor[target]
	journal  *journal
	wake     chan struct{}
	stopped  chan struct{} // closed when run returns

	mu        sync.Mutex
	wanted    map[dataplane.ServiceKey]*Service
	groups    map[dataplane.ServiceKey]groups
	waits     map[dataplane.ServiceKey]bool // those of which a decision may change by time alone
	pending   queue
	failed    map[dataplane.ServiceKey]error
	unwatched map[dataplane.ServiceKey]error // why a backend of the service is not watched as wished
	down      map[target]bool                // by the kernel when the daemon started, until the first want
	waiting   []chan struct{}                // closed when no change is pending any more
}

// newReconciler returns one that does nothing before run.
func newReconciler(k kernel, config Config, log *slog.Logger, options health.Options[target]) *reconciler {
	r := &reconciler{
		kernel:    k,
		defaults:  config.Defaults,
		budget:    newBudget(config.Probes),
		log:       log,
		journal:   newJournal(log),
		wake:      make(chan struct{}, 1),
		stopped:   make(chan struct{}),
		wanted:    make(map[dataplane.ServiceKey]*Service),
		groups:    make(map[dataplane.ServiceKey]groups),
		waits:     make(map[dataplane.ServiceKey]bool),
		failed:    make(map[dataplane.ServiceKey]error),
		unwatched: make(map[dataplane.ServiceKey]error),
		down:      make(map[target]bool),
	}
	for _, s := range k.Services() {
		for _, b := range s.Backends {
			if b.Down {
				r.down[target{s.ServiceKey, netip.AddrPortFrom(b.Address, b.Port)}] = true
			}
		}
	}
	if options.Prober == nil {
		options.Prober = r.prober
	}
	r.monitor = health.New(options, r.verdictChanged)
	return r
}

// want takes a new desired state; its services are not modified by anybody. Only those that differ are
// looked at, first those that go, because they make room.
func (r *reconciler) want(m Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.revisions(m)
	for _, c := range changed {
		if c.after != nil {
			r.wanted[c.after.Key()] = c.after
			r.pending.push(c.after.Key())
		}
	}
	for _, c := range changed {
		if c.after == nil {
			key := c.before.Key()
			r.pending.pushFirst(key)
			delete(r.wanted, key)
			delete(r.groups, key)
			delete(r.waits, key)
		}
	}
	r.journal.forget(changed)
	r.watch(changed)
	clear(r.down)
	r.signal()
}

// revision is a service that is wanted otherwise than before, by its key. One of both is nil where it was not, or is not
// any more.
type revision struct{ before, after *Service }

// revisions compares a desired state with the one before. r.mu must be held.
func (r *reconciler) revisions(m Manifest) (changed []revision) {
	count := len(r.wanted) // of services that are before or after
	for i := range m.Services {
		s := &m.Services[i]
		before := r.wanted[s.Key()]
		if before == nil {
			count++
		}
		if before == nil || !before.equal(s) {
			after := *s // m is not kept alive by one of its services
			changed = append(changed, revision{before, &after})
		}
	}
	if count == len(m.Services) {
		return changed
	}
	stays := make(map[dataplane.ServiceKey]bool, len(m.Services))
	for i := range m.Services {
		stays[m.Services[i].Key()] = true
	}
	for key, s := range r.wanted {
		if !stays[key] {
			changed = append(changed, revision{before: s})
		}
	}
	return changed
}

// verdictChanged has a service looked at before all others.
func (r *reconciler) verdictChanged(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted[t.service] != nil {
		r.pending.pushFirst(t.service)
		r.signal()
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
	defer r.monitor.Close()
	defer close(r.stopped)
	compare := time.NewTicker(compareInterval)
	defer compare.Stop()
	judge := time.NewTicker(judgeInterval)
	defer judge.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	<-retry.C
	delay, retrying := firstRetry, false
	r.compareAll(r.pending.push)
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
			r.compareAll(r.pending.pushLast)
			r.spend()
		case <-judge.C:
			r.judgeAll()
		case <-retry.C:
			retrying = false
			r.retryFailed()
		case <-r.wake:
		}
	}
}

// compareAll has everything looked at that is in the kernel or should be, first what should not.
func (r *reconciler) compareAll(push func(dataplane.ServiceKey)) {
	held := r.kernel.Services()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.wanted {
		push(key)
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

// next returns what to look at. When no change is left it tells those who wait.
func (r *reconciler) next() (dataplane.ServiceKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes := r.pending.urgent()
	key, ok := r.pending.pop()
	if !changes {
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
	if s != nil {
		r.judge(s, time.Now())
	}
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
