// Package health judges servers: by probing them, by what is seen of the connections to them, and by what they say of
// themselves. Monitor tells which are up and measures them; Group decides, for the backends of one service, which of them
// take new flows and how much of the traffic.
//
// It sends probes and nothing else; it knows neither services' tables nor the kernel.
package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
	"github.com/sluicelb/sluice/brain/health/probe"
)

// Target is a server and how it is watched; what differs is watched anew.
type Target struct {
	Address netip.AddrPort
	Source  netip.Addr // of probes; the zero value is the host's choice
	Via     bool       // probes need a way of their own, which Options.Prober knows
	Probe   probe.Spec // without a kind it is not probed, and up
	Load    LoadSource // without a kind it is not asked for its load
	Timing
	Down bool // a new target is down until it rises; otherwise it is up until it falls
}

// LoadSource is where and how a target is asked for its load.
type LoadSource struct {
	load.Spec
	Address  netip.AddrPort
	Interval time.Duration // > 0
}

// Prober probes one target. Safe for concurrent use: probes that confirm a miss run side by side.
type Prober interface {
	Probe(context.Context, *probe.Connect) error
}

// Reporter reads what one target says of its load.
type Reporter interface {
	Read(context.Context) (load.Report, error)
}

// ErrNotSent is the error of a probe that this host could not send, which tells nothing about the target.
var ErrNotSent = errors.New("this host cannot probe it")

// Options change how a Monitor works; the zero value uses what the specs of a target describe, with ordinary sockets.
type Options[K comparable] struct {
	Prober   func(K, Target) (Prober, error)
	Reporter func(K, Target) (Reporter, error)
}

func (o *Options[K]) complete() {
	if o.Prober == nil {
		o.Prober = func(_ K, t Target) (Prober, error) {
			return probe.New(t.Probe, t.Address, probe.Dialer{Source: t.Source})
		}
	}
	if o.Reporter == nil {
		o.Reporter = func(_ K, t Target) (Reporter, error) {
			return load.New(t.Load.Spec, t.Load.Address, probe.Dialer{Source: t.Source})
		}
	}
}

// Measures are what is known of a target; averages are over about 10 intervals of its probe.
type Measures struct {
	Success    float64       // share of probes that succeeded, 0..1; 1 without probes
	Latency    time.Duration // geometric mean of the answered ones, 0 while they are too few
	Probes     float64       // how many these figures rest on; older ones count less
	NotProbed  string        // why this host could not probe it the last time
	Handshakes Handshakes
	Load       load.Report // the latest one
	LoadError  string      // why there is none that is recent
}

// Monitor watches targets. K names a target. It is safe for concurrent use.
type Monitor[K comparable] struct {
	options Options[K]
	changed func(K)
	wg      sync.WaitGroup
	stop    context.CancelFunc
	pulse   pulse

	mu      sync.Mutex
	watches map[K]*watch
	waiting map[*watch]K  // those with handshakes that are waited for
	awaited chan struct{} // there are some
	touched map[K]bool    // of which something is known anew, see Touched
	quiet   *watch        // the latest shared one
}

// watch is one target being watched. Monitor.mu guards what is below mu.
type watch struct {
	target   Target
	shared   bool // stands for any target that nothing is known of, and is not modified
	prober   Prober
	reporter Reporter
	stop     context.CancelFunc

	next  *time.Timer   // of the next round; what follows is guarded by mu
	pause time.Duration // until the one after that, if doubt remains
	busy  bool          // a round is under way
	doubt bool          // wants a probe at once

	history history
	problem string    // why the latest probe tells nothing
	usual   estimator // of latencies
	connect estimator // of the time until a connection is accepted
	success average
	latency logMean
	passive passive
	load    loadState
}

// spanIntervals is the span of averages in intervals of the probe.
const spanIntervals = 10

func (t Timing) span() time.Duration { return max(spanIntervals*t.Interval, 500*time.Millisecond) }

// New returns a Monitor without targets. It calls changed after the verdict on a target has changed, or what it says of
// itself, from any goroutine, possibly several at once and possibly late: Look says what holds. changed must
// return quickly, because it delays the next probe of that target.
func New[K comparable](options Options[K], changed func(K)) *Monitor[K] {
	options.complete()
	ctx, stop := context.WithCancel(context.Background())
	m := &Monitor[K]{options: options, changed: changed, stop: stop, awaited: make(chan struct{}, 1), watches: make(map[K]*watch), waiting: make(map[*watch]K), touched: make(map[K]bool)}
	m.wg.Go(func() { m.expire(ctx) })
	return m
}

// Watch watches a target from now on. One that was there before keeps its verdict and what is known of it, also when it is
// watched differently from now on; an unchanged one does not notice.
//
// Returns an error when it cannot be watched as wished, such as with a certificate file that is not there; it stays as it
// was, a new one is up.
func (m *Monitor[K]) Watch(key K, target Target) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if target.Probe.Kind == "" && target.Load.Kind == "" {
		target = Target{Timing: target.Timing} // the rest counts for nothing
	}
	old := m.watches[key]
	if old != nil {
		target.Down = old.target.Down // only counts for new targets
		if target == old.target {
			return nil
		}
	}
	if err := m.start(key, target, old); err != nil {
		return fmt.Errorf("%v: %w", key, err)
	}
	return nil
}

// Unwatch removes a target. It is no error when it is not there.
func (m *Monitor[K]) Unwatch(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(key)
}

func (m *Monitor[K]) forget(key K) {
	if w := m.watches[key]; w != nil {
		w.end()
		delete(m.watches, key)
		delete(m.waiting, w)
		delete(m.touched, key)
	}
}

// start watches a target; old is the watch that this one takes the place of.
func (m *Monitor[K]) start(key K, target Target, old *watch) (err error) {
	if target.Probe.Kind == "" && target.Load.Kind == "" && (old == nil || old.shared) {
		m.watches[key] = m.unknown(target)
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{target: target, stop: stop, pause: target.Confirm}
	if target.Probe.Kind != "" {
		w.prober, err = m.options.Prober(key, target)
	}
	if err == nil && target.Load.Kind != "" {
		w.reporter, err = m.options.Reporter(key, target)
	}
	if err != nil {
		stop()
		return err
	}
	w.history = history{verdict: Verdict{Up: !target.Down, Since: time.Now()}, rise: target.Rise, fall: target.Fall}
	w.passive.span = target.span()
	if old != nil {
		old.end()
		w.history.verdict = old.history.verdict
		w.passive = old.passive
		w.passive.span = target.span()
		if _, waits := m.waiting[old]; waits {
			delete(m.waiting, old)
			m.waiting[w] = key
		}
		if target.Load == old.target.Load {
			w.load = old.load
		}
		if target.Address == old.target.Address && target.Probe == old.target.Probe {
			w.usual, w.connect, w.success, w.latency = old.usual, old.connect, old.success, old.latency
		}
	}
	if w.prober == nil && !w.history.verdict.Up {
		w.history.verdict = Verdict{Up: true, Cause: "not probed any more", Since: time.Now()}
	}
	m.watches[key] = w
	if w.prober != nil {
		// It begins at a random moment, so that many targets spread over the interval.
		w.next = time.AfterFunc(rand.N(target.Interval), func() { m.turn(ctx, key, w) })
	}
	if w.reporter != nil {
		m.wg.Go(func() { m.read(ctx, key, w) })
	}
	return nil
}

// Look returns whether a target is up and what is known of it. Without such a target it is up since the zero time, and
// perfect.
func (m *Monitor[K]) Look(key K) (Verdict, Measures) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.watches[key]; w != nil {
		return w.verdict(), w.measures(time.Now())
	}
	return Verdict{Up: true}, Measures{Success: 1}
}

func (w *watch) measures(now time.Time) Measures {
	measures := Measures{Success: 1, Probes: w.success.weight, Handshakes: w.passive.handshakes(now)}
	if w.success.weight > 0 {
		measures.Success = w.success.mean(0)
	}
	if w.latency.logs.weight >= enoughProbes {
		measures.Latency = w.latency.mean()
	}
	measures.NotProbed, measures.Load, measures.LoadError = w.problem, w.load.report, w.load.problem
	return measures
}

// Signal takes what was seen of a connection to a target. A burst of failures has the target probed at once.
func (m *Monitor[K]) Signal(key K, s Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watches[key]
	if w == nil || !w.history.verdict.Up {
		return
	}
	if w.shared {
		own := *w
		own.shared = false
		w = &own
		m.watches[key] = w
	}
	m.touched[key] = true
	if w.passive.observe(s) {
		w.probeNow()
	}
	if len(w.passive.pending) > 0 {
		m.waiting[w] = key
		select {
		case m.awaited <- struct{}{}:
		default:
		}
	}
}

// Missed says that signals were lost: the handshakes that are waited for may have been answered.
func (m *Monitor[K]) Missed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.waiting {
		clear(w.passive.pending)
	}
	clear(m.waiting)
}

// expireInterval is how late it is noticed that a handshake was not answered in time.
const expireInterval = 5 * time.Millisecond

// expire looks for handshakes that no answer came to, as long as any are waited for.
func (m *Monitor[K]) expire(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.awaited:
		}
		for m.expireOnce(time.Now()) && ctx.Err() == nil {
			time.Sleep(expireInterval)
		}
	}
}

// expireOnce says whether any are still waited for.
func (m *Monitor[K]) expireOnce(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w, key := range m.waiting {
		m.touched[key] = true
		if w.passive.expire(now) && w.history.verdict.Up {
			w.probeNow()
		}
		if len(w.passive.pending) == 0 {
			delete(m.waiting, w)
		}
	}
	return len(m.waiting) > 0
}

// probeNow has the next round begin at once, or as soon as the present one is over. Monitor.mu must be held.
func (w *watch) probeNow() {
	if w.next == nil {
		return
	}
	w.doubt = true
	if !w.busy {
		w.next.Reset(0)
	}
}

// end ends what is done for the target. Monitor.mu must be held.
func (w *watch) end() {
	w.stop()
	if w.next != nil {
		w.next.Stop()
	}
}

// Close removes every target and returns when nothing is watched any more.
func (m *Monitor[K]) Close() {
	m.mu.Lock()
	for key := range m.watches {
		m.forget(key)
	}
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
}

// turn is the moment of a target's next round. Between rounds nothing runs for it, since of very many targets the stacks
// would take the most memory.
func (m *Monitor[K]) turn(ctx context.Context, key K, w *watch) {
	doubt, ok := m.enter(key, w)
	if !ok {
		return
	}
	defer m.wg.Done()
	began := time.Now()
	m.leave(key, w, began, m.round(ctx, key, w, doubt))
}

// enter says whether a round is to be made, and whether there is doubt. Then leave must be called in the end.
func (m *Monitor[K]) enter(key K, w *watch) (doubt, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watches[key] != w || w.busy {
		return false, false
	}
	m.wg.Add(1)
	doubt = w.doubt
	w.doubt, w.busy = false, true
	return doubt, true
}

// leave ends a round, which says whether doubt remains.
func (m *Monitor[K]) leave(key K, w *watch, began time.Time, remains bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.busy = false
	if m.watches[key] != w {
		return
	}
	next := w.target.Interval
	if remains {
		// This host is short of something: it soon tries again, but ever more seldom.
		next, w.pause = min(w.pause, next), min(2*w.pause, next)
	} else {
		w.pause = w.target.Confirm
	}
	if w.doubt {
		next = 0
	}
	w.next.Reset(max(next-time.Since(began), 0))
}

// result is what came of a probe; failure is "" for a success.
type result struct {
	began        time.Time
	took         time.Duration
	connect      time.Duration // 0: none was accepted
	failure      string
	inconclusive bool
}

// round sends a probe, and others beside it as soon as its answer is late or it fails, until there are enough for a verdict or
// one succeeds. With doubt they follow without waiting for the first. Returns whether doubt remains.
func (m *Monitor[K]) round(ctx context.Context, key K, w *watch, doubt bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plan := m.plan(w)
	wanted, pause := plan.probes, plan.pause
	if doubt {
		pause = w.target.Confirm
	}
	results := make(chan result, wanted)
	sent, open := 0, 0
	more := time.NewTimer(0)
	defer more.Stop()
	for sent < wanted || open > 0 {
		next := more.C
		if sent == wanted {
			next = nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-next:
			m.wg.Go(func() { results <- plan.probe(ctx, w.prober, &m.pulse) })
			sent, open = sent+1, open+1
			more.Reset(pause)
			pause = w.target.Confirm
		case r := <-results:
			open--
			if ctx.Err() != nil {
				return false
			}
			decided := m.observe(key, w, r)
			if r.inconclusive && open == 0 {
				return m.doubtful(w) // this host is short of something: no more now
			}
			if decided || r.failure == "" && !r.inconclusive {
				return false
			}
			if sent == 1 { // it failed before it was late
				more.Reset(w.target.Confirm)
			}
		}
	}
	return m.doubtful(w)
}

// plan is what a round does.
type plan struct {
	probes  int           // at most
	pause   time.Duration // from the first to the second
	timeout time.Duration // of each
	connect time.Duration // after which one that is not connected has failed, 0: none
}

func (m *Monitor[K]) plan(w *watch) plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !w.history.verdict.Up {
		return plan{probes: 1, timeout: w.target.Timeout} // one that comes back may be slow at first
	}
	p := plan{probes: w.target.Fall, timeout: w.usual.timeout(w.target.Timing)}
	p.pause = p.timeout
	if w.usual.known {
		p.pause = min(w.usual.late(), p.timeout)
	}
	if w.connect.known {
		p.connect = min(w.connect.timeout(w.target.Timing), p.timeout)
	}
	return p
}

func (p plan) probe(ctx context.Context, prober Prober, pulse *pulse) result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	connect := probe.Connect{Limit: p.connect}
	began, lost := time.Now(), pulse.begin()
	err := prober.Probe(ctx, &connect)
	took := time.Since(began)
	lost = pulse.end(lost)
	allowed := p.timeout
	if p.connect > 0 && connect.Took == 0 {
		allowed = p.connect
	}
	return result{began, took, connect.Took, reason(err, allowed), inconclusive(err, allowed, max(took-allowed, lost))}
}

// observe takes a result and says whether it changed the verdict.
func (m *Monitor[K]) observe(key K, w *watch, r result) (changed bool) {
	m.mu.Lock()
	if m.watches[key] != w {
		m.mu.Unlock()
		return false
	}
	m.touched[key] = true
	w.problem = ""
	if r.inconclusive {
		w.problem = r.failure
		m.mu.Unlock()
		return false
	}
	now := time.Now()
	w.success.observe(float64(oneIf(r.failure == "")), now, w.target.span())
	if r.connect > 0 {
		w.connect.observe(r.connect)
	}
	if r.failure == "" {
		w.usual.observe(r.took)
		w.latency.observe(r.took, now, w.target.span())
	}
	if changed = w.history.observe(r.failure, r.began, now); changed {
		if text := w.passive.text(now); text != "" && !w.history.verdict.Up {
			w.history.verdict.Cause += "; " + text
		}
		w.passive = passive{span: w.target.span()}
	}
	m.mu.Unlock()
	if changed {
		m.changed(key)
	}
	return changed
}

func (m *Monitor[K]) doubtful(w *watch) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return w.history.doubtful()
}
