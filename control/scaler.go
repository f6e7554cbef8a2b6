package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/brain/orchestrate"
	"github.com/sluicelb/sluice/brain/orchestrate/lease"
	"github.com/sluicelb/sluice/brain/scale"
	"github.com/sluicelb/sluice/brain/scale/keda"
	"github.com/sluicelb/sluice/dataplane"
)

// scaler decides every scale.Period how many backends each service with a scaling policy shall have, and has it done: one plan at a time
// for a service. It is safe for concurrent use.
//
// What it has learnt comes from the history, so that nothing of that is kept; only what limits reckon with is.
type scaler struct {
	store  *Store
	rules  rules
	config ScaleConfig
	kernel interface {
		Traffic(dataplane.ServiceKey) ([]dataplane.Traffic, bool)
	}
	follows   *reconciler
	history   *history.History
	calendar  forecast.Calendar
	share     float64 // of a processor that learning may take
	events    func(service string, from, to time.Time) []forecast.Event
	flows     func(flowsRequest) (LiveFlows, error)
	clock     clock
	log       *slog.Logger
	lease     lease.Lease
	fence     lease.Fence
	keda      *keda.Scaler
	plans     *orchestrate.Store
	states    scaleStates
	runner    orchestrate.Runner
	running   sync.WaitGroup
	learnable chan struct{} // there may be something to learn

	mu       sync.Mutex
	services map[string]*scaled
	kept     time.Time             // when states were, by the calendar
	unkept   bool                  // something important has changed since
	pauses   map[string]ScalePause // by service; "" is all
}

// scaled is a service that scales. The scaler's mutex guards it.
type scaled struct {
	service  Service // as it is desired
	policy   Scaling // with every field filled in
	rate     float64 // that the pilot reckons with, new flows per second
	pilot    *scale.Pilot
	guard    scale.Guard
	state    scaleState
	learnt   time.Time // when the pilot did last, or tried to
	problem  string    // why it could not
	counted  []count   // the latest last
	before   []dataplane.Traffic
	plan     *execution
	pending  *orchestrate.Plan // that has not ended, and that nobody carries out
	retry    time.Time         // no plan before, by the calendar
	failures int
	draining bool // the plan has backends finish what they have
	status   ScaleStatus
}

// count is how many flows began up to a time.
type count struct {
	at    time.Time
	flows float64
}

// execution is a plan that is carried out.
type execution struct {
	plan  *orchestrate.Plan
	abort context.CancelCauseFunc
}

const (
	// enoughFlows tell a load to 5 %; for fewer in a Period the load is that of up to loadWindow.
	enoughFlows = 400
	loadWindow  = 5 * time.Minute
	// relearn is how often a pilot learns anew, and tryAgain when it could not.
	relearn, tryAgain = forecast.Day, time.Hour
	// firstBackOff is how long nothing is ordered after an order failed, doubled each time up to longestBackOff.
	firstBackOff, longestBackOff = time.Minute, 30 * time.Minute
	// keepEvery is how often what is reckoned with is kept, when nothing is ordered.
	keepEvery = time.Minute
	// burstTime is how long arrivals are counted for to tell how they come.
	burstTime = 200 * time.Millisecond
	// pilotSeed has the same history lead to the same decisions.
	pilotSeed = 1
)

// run decides until ctx ends, and leaves plans that go on then to the next start.
func (s *scaler) run(ctx context.Context) {
	s.resume()
	ticker := time.NewTicker(max(s.clock.real(scale.Period), time.Millisecond))
	defer ticker.Stop()
	for {
		s.measure(ctx)
		s.decideAll(ctx)
		select {
		case <-ctx.Done():
			s.running.Wait()
			return
		case <-ticker.C:
		}
	}
}

// resume finds the plans that did not end before the daemon did.
func (s *scaler) resume() {
	plans, err := s.plans.List()
	if err != nil {
		s.log.Error("plans cannot be read; those that did not end do not go on", "error", err)
	}
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range plans {
		if p.Ended() {
			continue
		}
		if sc := s.services[p.Target()]; sc != nil {
			sc.pending = p
		} else {
			s.log.Error("a plan did not end, and its service does not scale any more", "plan", p.Number, "service", p.Target())
		}
	}
}

// sync follows the desired state. What another policy changes is learnt anew.
func (s *scaler) sync() {
	m := s.store.Manifest()
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[string]bool)
	for i := range m.Services {
		service := &m.Services[i]
		if !service.Scaling.on() {
			continue
		}
		there[service.Name] = true
		sc := s.services[service.Name]
		if sc == nil {
			sc = s.begin(service)
			s.services[service.Name] = sc
		}
		changed := sc.service.Scaling != service.Scaling || sc.service.Key() != service.Key()
		sc.service = *service
		sc.policy = service.Scaling.filled()
		if rate := sc.serviceRate(); sc.pilot == nil && rate > 0 || changed || math.Abs(rate-sc.rate) > 0.1*sc.rate {
			s.repilot(sc, rate)
		}
		sc.guard.Limits = sc.policy.limits(s.clock.speed())
		sc.guard.Paused = s.paused(service.Name)
		sc.guard.Freezes = sc.freezes(s.clock.now(), s.calendar.Zone())
	}
	for name, sc := range s.services {
		if !there[name] {
			if sc.plan != nil {
				sc.plan.abort(errors.New("the service does not scale any more"))
			}
			delete(s.services, name)
			s.keda.Forget(name)
			if err := s.states.remove(name); err != nil {
				s.log.Error("what was kept of scaling a service cannot be removed", "service", name, "error", err)
			}
		}
	}
}

// begin returns a service that begins to scale, with what is kept of it.
func (s *scaler) begin(service *Service) *scaled {
	sc := &scaled{service: *service}
	var err error
	if sc.state, err = s.states.load(service.Name); err != nil {
		s.log.Error("what was kept of scaling a service cannot be read; budgets and pauses begin anew", "service", service.Name, "error", err)
	}
	sc.guard.GuardState = sc.state.Guard
	return sc
}

// serviceRate is what is configured, or else what is learnt, 0 when nothing is.
func (sc *scaled) serviceRate() float64 {
	if sc.policy.ServiceRate > 0 {
		return sc.policy.ServiceRate
	}
	rate, _ := sc.state.Rate.Rate()
	return rate
}

// repilot has a service decided about by another pilot, which is to learn.
func (s *scaler) repilot(sc *scaled, rate float64) {
	sc.rate, sc.pilot, sc.learnt, sc.problem = rate, nil, time.Time{}, ""
	if rate == 0 {
		return
	}
	o := sc.policy.options(rate, s.clock.speed())
	o.Step, o.Queue.Burstiness = s.history.Step(), sc.state.Bursts.Squared()
	if err := o.Check(); err != nil {
		sc.problem = err.Error()
		return
	}
	now := s.clock.now().Truncate(o.Step)
	rows, err := s.history.Read(sc.service.Name, now.Add(-scale.LearntFrom), now)
	if err != nil {
		s.log.Error("the history cannot be read; scaling does not learn from it", "service", sc.service.Name, "error", err)
	}
	data := forecast.NewData(forecast.Series{Start: now.Add(-time.Duration(len(rows)) * o.Step), Step: o.Step})
	data.Calendar = s.calendar
	for _, row := range rows {
		data.Append(float64(row[history.NewFlows]))
	}
	sc.pilot = scale.NewPilot(o, data, pilotSeed)
	s.plan(sc)
	s.wakeLearner()
}

// plan tells the pilot what is planned.
func (s *scaler) plan(sc *scaled) {
	now := s.clock.now()
	sc.pilot.Plan(s.events(sc.service.Name, now.Add(-scale.LearntFrom), now.Add(forecast.Day)))
}

func (s *scaler) wakeLearner() {
	select {
	case s.learnable <- struct{}{}:
	default:
	}
}

// minute tells what was measured in a minute.
func (s *scaler) minute(m history.Minute) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sc := range s.services {
		if row, ok := m.Rows[name]; ok && sc.pilot != nil {
			s.plan(sc)
			sc.pilot.Observe(m.At, float64(row[history.NewFlows]))
		}
	}
	s.wakeLearner()
}

// imported tells that the past of a service is another one now.
func (s *scaler) imported(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc := s.services[name]; sc != nil {
		s.repilot(sc, sc.rate)
	}
}

// learn has pilots learn, one after the other, until ctx ends.
func (s *scaler) learn(ctx context.Context) {
	for ctx.Err() == nil {
		name, pilot := s.dueToLearn()
		if pilot == nil {
			select {
			case <-ctx.Done():
			case <-s.learnable:
			}
			continue
		}
		began := time.Now()
		err := forecast.Background{Share: s.share}.Do(ctx, pilot.Learn)
		if ctx.Err() != nil {
			return
		}
		s.learned(name, pilot, err)
		if err == nil {
			s.log.Info("learnt how to scale", "service", name, "took", time.Since(began).Round(time.Millisecond))
		}
	}
}

// dueToLearn returns the pilot that has not learnt for longest, of those that are to.
func (s *scaler) dueToLearn() (name string, pilot *scale.Pilot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	for n, sc := range s.services {
		pause := relearn
		if sc.problem != "" {
			pause = tryAgain
		}
		if sc.pilot == nil || s.clock.now().Sub(sc.learnt) < pause {
			continue
		}
		if pilot == nil || sc.learnt.Before(oldest) {
			name, pilot, oldest = n, sc.pilot, sc.learnt
		}
	}
	return name, pilot
}

// learned notes how learning ended.
func (s *scaler) learned(name string, pilot *scale.Pilot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.services[name]
	if sc == nil || sc.pilot != pilot {
		return
	}
	sc.learnt, sc.problem = s.clock.now(), ""
	switch {
	case errors.Is(err, forecast.ErrTooShort):
		sc.problem = "there is too little history: some two days are needed"
	case err != nil:
		sc.problem = err.Error()
		s.log.Error("scaling cannot learn; trying again in an hour", "service", name, "error", err)
	}
}

// measure counts the new flows of each service, and how they come.
func (s *scaler) measure(ctx context.Context) {
	s.sync()
	s.countAll()
	if s.clock.Speed == 0 {
		first := s.countAll()
		for _, next := range []bool{false, true} {
			select {
			case <-ctx.Done():
				return
			case <-time.After(burstTime):
			}
			second := s.countAll()
			if next {
				s.observeBursts(first, second)
			}
			first = second
		}
	}
	s.observeLoads()
}

// countAll counts once, and returns how many flows began since the time before, by service.
func (s *scaler) countAll() map[string]float64 {
	now := s.clock.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	began := make(map[string]float64, len(s.services))
	for name, sc := range s.services {
		traffic, ok := s.kernel.Traffic(sc.service.Key())
		if !ok {
			sc.counted = nil
			continue
		}
		flows := 0.0
		if n := len(sc.counted); n > 0 {
			began[name] = float64(counted(sc.before, traffic).NewFlows)
			flows = sc.counted[n-1].flows + began[name]
		}
		sc.before = traffic
		sc.counted = append(sc.counted, count{now, flows})
		for len(sc.counted) > 2 && now.Sub(sc.counted[1].at) >= loadWindow {
			sc.counted = sc.counted[1:]
		}
	}
	return began
}

func (s *scaler) observeBursts(first, second map[string]float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sc := range s.services {
		a, known := first[name]
		b, alsoKnown := second[name]
		if known && alsoKnown {
			sc.state.Bursts.Observe(a, b)
		}
	}
}

// load returns the new flows per second of the calendar: in the last Period, or longer when that are too few. NaN is unknown.
func (sc *scaled) load() float64 {
	n := len(sc.counted)
	if n < 2 {
		return math.NaN()
	}
	last := sc.counted[n-1]
	for i := n - 2; i >= 0; i-- {
		since := sc.counted[i]
		took := last.at.Sub(since.at)
		if took >= scale.Period*9/10 && (last.flows-since.flows >= enoughFlows || i == 0) {
			return (last.flows - since.flows) / took.Seconds()
		}
	}
	return math.NaN()
}

// observeLoads learns the service rate from what backends report, where it is not configured.
func (s *scaler) observeLoads() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range s.services {
		if sc.policy.ServiceRate > 0 {
			continue
		}
		use, reports := s.follows.utilisation(&sc.service)
		if load := sc.load() * s.clock.speed(); reports > 0 {
			sc.state.Rate.Observe(load/float64(reports), use)
		}
	}
}

// utilisation returns the mean load that the backends of a service which are up report, 0 to 1, and how many do.
func (r *reconciler) utilisation(s *Service) (use float64, reports int) {
	for i, d := range r.evaluate(s).backends {
		b := &s.Backends[i]
		if d.State != StateUp {
			continue
		}
		if report := r.measures(s, b).Load; report.Load != nil {
			use += *report.Load
			reports++
		}
	}
	return use / float64(max(reports, 1)), reports
}

// freezes are those of the policy around now.
func (sc *scaled) freezes(now time.Time, zone *time.Location) (all []scale.Freeze) {
	freezes, err := parseFreezes(sc.policy.Freeze)
	if err != nil {
		return []scale.Freeze{{From: now, To: now.Add(time.Hour), All: true, Why: err.Error()}} // it was checked; whoever cannot read it stays
	}
	for _, f := range freezes {
		all = append(all, f.around(now, zone))
	}
	return all
}

// decideAll decides about each service.
func (s *scaler) decideAll(ctx context.Context) {
	token, held := s.lease.Token()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range s.services {
		s.decide(ctx, sc, token, held)
	}
	if now := s.clock.now(); s.unkept || now.Sub(s.kept) >= keepEvery {
		s.keep()
	}
}

// fleet is what there is of a service's backends.
type fleet struct {
	ready   int           // up, and meant to be
	there   int           // meant to be up, and not lost
	lost    []string      // that scaling started and that have been down for long
	ordered []string      // the others that scaling started, first those that are not up, then the latest
	places  []scale.Place // of those that are up
}

// fleetOf looks at the backends of a service. One that is down for much longer than it takes to boot is lost.
func (s *scaler) fleetOf(sc *scaled) fleet {
	var f fleet
	patience := 2*time.Duration(sc.policy.Boot) + time.Minute
	var up, notUp []string
	for i, d := range s.follows.evaluate(&sc.service).backends {
		b := &sc.service.Backends[i]
		if b.State != StateUp {
			continue
		}
		isUp := d.State == StateUp
		if isUp {
			f.ready++
			f.places = append(f.places, scale.Place{Name: b.Name, Rack: b.Rack, Zone: b.Zone, Capacity: sc.rate})
		}
		switch {
		case !isUp && !d.Since.IsZero() && time.Since(d.Since) > patience:
			if b.Order != "" {
				f.lost = append(f.lost, b.Name)
			}
			continue
		case b.Order != "" && isUp:
			up = append(up, b.Name)
		case b.Order != "":
			notUp = append(notUp, b.Name)
		}
		f.there++
	}
	slices.Reverse(up)
	f.ordered = append(notUp, up...)
	return f
}

// total is how many backends there are and will be: with those that are ordered but have not come yet, or in a dry run with what was
// decided before.
func (sc *scaled) total(f fleet, now time.Time, patience time.Duration) int {
	switch {
	case sc.dry():
		return cmp.Or(sc.state.Ordered, f.there)
	case sc.state.Ordered > f.there && now.Sub(sc.state.At) < patience:
		return sc.state.Ordered
	}
	return f.there
}

// dry says that decisions are only shown.
func (sc *scaled) dry() bool { return sc.policy.Executor == executorNone || sc.policy.Act == actDryRun }

// decide decides about one service, and has that done.
func (s *scaler) decide(ctx context.Context, sc *scaled, token uint64, held error) {
	now := s.clock.now()
	f := s.fleetOf(sc)
	total := sc.total(f, now, s.clock.calendar(2*time.Duration(sc.policy.Boot)+time.Minute))
	sc.status = sc.report(f, total, now, s.clock.speed())
	if sc.pilot == nil {
		why := cmp.Or(sc.problem, "what a backend serves is not learnt yet: none has reported its load for long enough")
		sc.status.Reasons = []string{why}
		return
	}
	ready := f.ready
	if sc.dry() {
		ready = min(ready, total)
	}
	d := sc.pilot.Decide(now, sc.load(), ready, total)
	d = sc.survive(f, d)
	sc.status.Predictive, sc.status.Confidence = d.Predictive, d.Confidence
	if why := s.mustWait(sc, d, total, held); why != "" {
		sc.status.Wanted, sc.status.Reasons = sc.guard.Within(d.Instances), append(d.Reasons, why)
		return
	}
	if sc.pending != nil {
		s.carryOut(ctx, sc, sc.pending)
		return
	}
	d = sc.guard.Hold(now, d, total)
	sc.status.Wanted, sc.status.Reasons = d.Instances, d.Reasons
	switch {
	case d.Instances != total:
		s.order(ctx, sc, f, total, d, token)
	case sc.policy.Executor == executorKEDA && !sc.dry():
		s.keda.Want(sc.service.Name, total) // also after a restart
	}
}

// mustWait says why nothing is done now. A plan that ends backends is given up when more are needed.
func (s *scaler) mustWait(sc *scaled, d scale.Decision, total int, held error) string {
	switch now := s.clock.now(); {
	case sc.plan != nil:
		if sc.draining && d.Instances > total && sc.guard.Paused == "" {
			sc.plan.abort(fmt.Errorf("%d backends are needed: %s", d.Instances, strings.Join(d.Reasons, "; ")))
		}
		return fmt.Sprintf("plan %d goes on", sc.plan.plan.Number)
	case held != nil && !sc.dry():
		return held.Error()
	case now.Before(sc.retry):
		return fmt.Sprintf("the last plan failed; the next one is made in %s at the earliest", s.clock.real(sc.retry.Sub(now)).Round(time.Second))
	}
	return ""
}

// survive adds what it takes to keep the objective in the scenarios that shall be survived, and reckons how resilient the backends are.
func (sc *scaled) survive(f fleet, d scale.Decision) scale.Decision {
	scenarios, problem := sc.policy.scenarios()
	if problem != nil || len(scenarios) == 0 {
		return d
	}
	n, enough, err := scale.Survive(f.places, d.Instances, scenarios)
	switch {
	case err != nil: // it was checked
		d.Reasons = append(d.Reasons, err.Error())
	case !enough:
		d.Reasons = append(d.Reasons, "no number of backends survives "+sc.policy.Survive+" where they are")
	case n > d.Instances:
		d.Reasons = append(d.Reasons, fmt.Sprintf("%d instead of %d, so that %s is survived", n, d.Instances, sc.policy.Survive))
		d.Instances = n
	}
	if load := sc.status.Load; load != nil {
		if m, err := scale.MarginOf(f.places, *load, scenarios); err == nil {
			sc.status.Resilience, sc.status.ResilienceReason = &m.Resilience, m.Reason
		}
	}
	return d
}

// order tells what is decided, and begins to carry it out.
func (s *scaler) order(ctx context.Context, sc *scaled, f fleet, total int, d scale.Decision, token uint64) {
	sc.state.Ordered, sc.state.At = d.Instances, s.clock.now()
	s.unkept = true
	s.follows.journal.add(Event{
		Kind: EventScale, Service: sc.service.Name, From: strconv.Itoa(total), To: strconv.Itoa(d.Instances), Cause: strings.Join(d.Reasons, "; "), key: sc.service.Key(),
	})
	if sc.dry() {
		return
	}
	all := sc.recommend(f, total, d)
	plan, err := orchestrate.Policy{}.Make(s.clock.now(), token, strings.Join(d.Reasons, "; "), all)
	if err == nil {
		err = s.plans.Add(plan)
	}
	if err != nil {
		s.log.Error("a plan cannot be made", "service", sc.service.Name, "error", err)
		s.failed(sc)
		return
	}
	s.carryOut(ctx, sc, plan)
}

// carryOut carries out a plan that is in the store, beside everything else.
func (s *scaler) carryOut(ctx context.Context, sc *scaled, p *orchestrate.Plan) {
	name := sc.service.Name
	ctx, abort := context.WithCancelCause(ctx)
	sc.plan, sc.pending = &execution{plan: p, abort: abort}, nil
	sc.status.Plan = p.Number
	s.running.Go(func() {
		defer abort(nil)
		err := s.runner.Run(ctx, p)
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
			undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			err = s.runner.Abort(undoing, p, cause.Error())
			cancel()
		}
		s.ended(name, p, err)
	})
}

// ended notes how a plan did.
func (s *scaler) ended(name string, p *orchestrate.Plan, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.services[name]
	if !p.Ended() {
		s.log.Warn("a plan stopped; it goes on later", "plan", p.Number, "service", name, "error", err)
		if sc != nil {
			sc.plan, sc.pending = nil, p
			s.failed(sc)
		}
		return
	}
	event := Event{Kind: EventPlan, Service: name, From: string(orchestrate.Running), To: string(p.State), Cause: strings.TrimSuffix(fmt.Sprintf("plan %d: %s", p.Number, p.Cause()), ": ")}
	if sc == nil {
		s.follows.journal.add(event)
		return
	}
	event.key = sc.service.Key()
	s.follows.journal.add(event)
	sc.plan = nil
	if p.State == orchestrate.Done {
		sc.failures, sc.retry = 0, time.Time{}
		return
	}
	sc.state.Ordered = 0
	if p.Aborted == "" {
		s.failed(sc)
	}
}

// failed has a service wait, longer each time.
func (s *scaler) failed(sc *scaled) {
	pause := min(firstBackOff<<min(sc.failures, 10), longestBackOff)
	sc.failures++
	sc.retry = s.clock.now().Add(s.clock.calendar(pause))
}

// keep keeps what must outlive the daemon. s.mu must be held.
func (s *scaler) keep() {
	s.kept, s.unkept = s.clock.now(), false
	all := make(map[string]scaleState, len(s.services))
	for name, sc := range s.services {
		sc.state.Guard = sc.guard.GuardState
		all[name] = sc.state
	}
	if err := s.states.save(all); err != nil {
		s.log.Error("what scaling reckons with cannot be kept; after a restart budgets and cooldowns begin anew", "error", err)
	}
}
