package scale

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Options are what a Decider decides by.
type Options struct {
	Queue     Queue
	Objective time.Duration // mean response time that is to be kept
	Risk      float64       // share of the time in which it may be missed, above 0 to below 1
	Boot      time.Duration // from the order of an instance until it serves
	Step      time.Duration // of what Observe is told
	// Confidence is how often what was planned must have sufficed lately, 0 to 1, for plans to be acted on: as a part of how often
	// it is meant to, 1 - Risk. 0 is 0.8.
	Confidence float64
}

// Check says what is wrong with the options.
func (o *Options) Check() error {
	alone := time.Duration(float64(time.Second) * o.Queue.alone())
	switch {
	case !(o.Queue.Rate > 0):
		return fmt.Errorf("a rate of %g requests per second of an instance is not above 0", o.Queue.Rate)
	case o.Objective <= alone:
		return fmt.Errorf("the objective of %v cannot be kept: a request alone takes %v of an instance that serves %g per second",
			o.Objective, alone, o.Queue.Rate)
	case !(o.Risk > 0 && o.Risk < 1):
		return fmt.Errorf("an accepted risk of %g is not within 0 and 1", o.Risk)
	case o.Boot < 0 || o.Step < Period:
		return fmt.Errorf("a boot time of %v and steps of %v: give 0 or more, and %v or more", o.Boot, o.Step, Period)
	}
	return nil
}

// Lead is how many steps ahead of the last one is the last one for which nothing but an order now comes in time: another one
// in the next step is ready only after it has begun.
func (o *Options) Lead() int { return int((o.Boot+o.Step-1)/o.Step) + 1 }

// Decision is how many instances there shall be, and why.
type Decision struct {
	Instances  int
	Predictive bool     // follows from a forecast
	Confidence float64  // share of the last steps for which what was planned sufficed
	Reasons    []string // sentences, for people
}

// Decider decides how many instances a service shall have. It plans for what the demand stays below but for the accepted risk,
// when capacity that is ordered now is ready; never for less than what the last hour needed. Beside that it keeps
// account of what Reactive rules would have done. Where plans did not suffice lately, or cost more than the rules
// at as many violations, it does what the best of these does. It is not safe for concurrent use.
type Decider struct {
	o     Options
	sizer *Sizer

	plan    int // for the step that is lead steps ahead, 0 is none
	plans   []int
	kept    []bool // whether plans sufficed, a ring
	judges  int    // plans that were judged
	held    int    // of those in the ring, how many sufficed
	steps   int
	needs   []int // of the last hour's steps, a ring; 0 is not known
	floor   int
	begun   bool    // there was a plan
	risk    float64 // that plans are made with, see adapt
	trusted bool
	rule    Reactive // that is followed otherwise

	mine   shadow
	others []*shadow
	judged time.Time
}

const (
	// judgedSteps is how many plans tell the confidence, 12 hours of minutes.
	judgedSteps = 720
	// judgeEvery is how often it is looked what does best, over the last judgedPeriods of these.
	judgeEvery, judgedPeriods, fewestPeriods = 6 * time.Hour, 56, 4
	// adaptPeriods of these tell what comes of plans, and mostRisk is as many times the accepted risk as they may be made with.
	adaptPeriods, mostRisk = 12, 10
	// better is as how much of what rules cost plans must cost to be followed again.
	better = 0.98
	// alike are violations that are not more by this factor and so many Periods: surges that nobody foresees hit all.
	alike, few = 1.1, 8
	// customary is the rule's target when nothing is known.
	customary = 0.7
)

// NewDecider returns one that knows nothing. The options must have passed Check.
func NewDecider(o Options) *Decider {
	if o.Confidence == 0 {
		o.Confidence = 0.8
	}
	d := &Decider{
		o: o, sizer: NewSizer(o.Queue, o.Objective), rule: Reactive{Target: customary},
		plans: make([]int, o.Lead()+1), kept: make([]bool, judgedSteps), needs: make([]int, max(int(time.Hour/o.Step), 1)),
	}
	d.mine.fleet, d.risk = Fleet{Ready: 1, boot: o.Boot}, o.Risk
	for target := 0.25; target < 0.91; target += 0.05 {
		d.others = append(d.others, &shadow{fleet: Fleet{Ready: 1, boot: o.Boot}, rule: Reactive{Target: target}})
	}
	return d
}

// Observe takes how many requests came in the step that has ended, NaN if that is not known, and what is forecast of the one that is
// Lead steps ahead of it; nil when nothing is.
func (d *Decider) Observe(requests float64, ahead *Distribution) {
	need := 0
	if !math.IsNaN(requests) {
		need = d.sizer.Need(requests / d.o.Step.Seconds())
	}
	d.needs[d.steps%len(d.needs)] = need
	if plan := d.plans[d.steps%len(d.plans)]; plan > 0 && need > 0 {
		d.keep(plan >= need)
	}
	d.plan = 0
	if ahead != nil {
		d.plan = d.sizer.Need(ahead.Quantile(1-d.risk) / d.o.Step.Seconds())
	}
	d.plans[(d.steps+d.o.Lead())%len(d.plans)] = d.plan
	d.floor = d.lastHour()
	d.steps++
}

func (d *Decider) keep(sufficed bool) {
	oldest := &d.kept[d.judges%len(d.kept)]
	d.held += int(flag(sufficed) - flag(*oldest))
	*oldest = sufficed
	d.judges++
}

// ahead is what was planned for the steps until what is ordered now is ready, and for that one: who is not needed then alone is not
// removed before, nor ordered again.
func (d *Decider) ahead() (most int) {
	for step := d.steps; step < d.steps+d.o.Lead(); step++ {
		most = max(most, d.plans[step%len(d.plans)])
	}
	return most
}

// confidence is the share of the last steps for which what was planned sufficed.
func (d *Decider) confidence() float64 {
	return float64(d.held) / float64(max(min(d.judges, len(d.kept)), 1))
}

// lastHour returns what the last hour needed but for the accepted risk; 0 when less than half of it is known.
func (d *Decider) lastHour() int {
	known := slices.DeleteFunc(slices.Clone(d.needs), func(n int) bool { return n == 0 })
	if 2*len(known) < len(d.needs) || len(known) == 0 {
		return 0
	}
	slices.Sort(known)
	return known[max(min(int(math.Ceil((1-d.risk)*float64(len(known)))), len(known))-1, 0)]
}

// Decide is to be called every Period, with the load in requests per second that there was in the last one, NaN if that is not
// known, and how many instances are ready and are there with those that boot.
func (d *Decider) Decide(now time.Time, load float64, ready, total int) Decision {
	if math.IsNaN(load) {
		return Decision{Instances: total, Reasons: []string{"the load is not known: nothing is changed"}}
	}
	planned := max(d.ahead(), d.floor, d.sizer.Need(load))
	if d.plan > 0 && !d.begun {
		d.begin(now, ready)
	}
	d.follow(now, load, planned)
	reactive := d.rule.Desired(now, load, d.o.Queue.Rate, ready, total)
	confidence := d.confidence()
	var why string // plans are not acted on
	switch {
	case d.plan == 0:
		why = "there is no forecast yet"
	case !d.trusted:
		why = "forecasts did not earn their keep lately"
	case confidence < d.o.Confidence*(1-d.o.Risk):
		why = fmt.Sprintf("what was planned sufficed in %.0f %% of the last steps only", 100*confidence)
	default:
		return Decision{planned, true, confidence, []string{d.reason(load, planned)}}
	}
	return Decision{reactive, false, confidence, []string{fmt.Sprintf("%s: %d instances for a utilisation of %.2f", why, reactive, d.rule.Target)}}
}

// reason says which part of a plan decided.
func (d *Decider) reason(load float64, planned int) string {
	switch planned {
	case d.ahead():
		return fmt.Sprintf("%d instances suffice for the next %v but for a risk of %.2g %%", planned, time.Duration(d.o.Lead())*d.o.Step, 100*d.o.Risk)
	case d.floor:
		return fmt.Sprintf("%d instances, as many as the last hour needed, though %d are planned for", planned, d.ahead())
	}
	return fmt.Sprintf("%d instances for the %.0f requests per second that there are now, more than were planned for", planned, load)
}

// begin has all be compared from the first plan on.
func (d *Decider) begin(now time.Time, ready int) {
	d.begun, d.judged = true, now
	d.mine.fleet.Ready = ready
	for _, s := range append(d.others, &d.mine) {
		s.periods, s.current = nil, tally{}
	}
}

// shadow is what would have been if some rule had been followed, or the plans.
type shadow struct {
	fleet   Fleet
	rule    Reactive
	periods []tally // the latest last
	current tally
}

// tally adds up what a rule cost: instances and violations, each times Period.
type tally struct{ instances, violations, count float64 }

func (t tally) plus(o tally) tally {
	return tally{t.instances + o.instances, t.violations + o.violations, t.count + o.count}
}

// sum is over the period that goes on, and so many before it.
func (s *shadow) sum(periods int) tally {
	sum := s.current
	for _, p := range s.periods[max(len(s.periods)-periods, 0):] {
		sum = sum.plus(p)
	}
	return sum
}

// follow has the shadows see a load, and looks now and then which of them does best.
func (d *Decider) follow(now time.Time, load float64, planned int) {
	if d.judged.IsZero() {
		d.judged = now
	}
	over := now.Sub(d.judged) >= judgeEvery
	for _, s := range append(d.others, &d.mine) {
		s.fleet.Advance(now)
		s.current = s.current.plus(tally{float64(s.fleet.Total()), flag(load > d.sizer.capacity(s.fleet.Ready)), 1})
		if s != &d.mine {
			s.fleet.Scale(now, s.rule.Desired(now, load, d.o.Queue.Rate, s.fleet.Ready, s.fleet.Total()))
		} else if d.plan > 0 {
			s.fleet.Scale(now, planned)
		}
		if over {
			s.periods = append(s.periods, s.current)
			s.periods = s.periods[max(len(s.periods)-judgedPeriods, 0):]
			s.current = tally{}
		}
	}
	if over {
		d.judged = now
		d.judge()
	}
}

// judge decides whether plans are followed, and which rule is otherwise.
func (d *Decider) judge() {
	fewest := math.Inf(1)
	for _, s := range d.others {
		fewest = min(fewest, s.sum(judgedPeriods).violations)
	}
	cheapest := math.Inf(1)
	for _, s := range d.others {
		// Where none keeps the risk, those that are no worse than the best at it are equally good.
		if t := s.sum(judgedPeriods); t.violations <= max(d.o.Risk*t.count, alike*fewest+few) && t.instances < cheapest {
			cheapest, d.rule.Target = t.instances, s.rule.Target
		}
	}
	if len(d.mine.periods) < fewestPeriods {
		return
	}
	d.adapt()
	mine := d.mine.sum(judgedPeriods)
	limit := d.equivalent(mine)
	if !d.trusted {
		limit *= better
	}
	d.trusted = mine.instances <= limit
}

// adapt changes the risk that plans are made with, so that what comes of them is rather less than the accepted one: whole instances and the
// last hour's floor make it much less otherwise.
func (d *Decider) adapt() {
	lately := d.mine.sum(adaptPeriods)
	switch share := lately.violations / max(lately.count, 1); {
	case share < 0.5*d.o.Risk:
		d.risk = min(1.15*d.risk, mostRisk*d.o.Risk, max(d.o.Risk, 0.5))
	case share > 0.75*d.o.Risk:
		d.risk = max(d.risk/1.3, d.o.Risk)
	}
}

// equivalent returns the least that a rule costs that does as well: with hardly more violations, or between two rules, whose
// costs over the logarithm of violations are nearly a line. Beyond the safest rule the line goes on if that one keeps the
// accepted risk; otherwise no rule does as well at any cost.
func (d *Decider) equivalent(mine tally) float64 {
	least := math.Inf(1)
	x := math.Log1p(mine.violations)
	var before tally
	for i, s := range d.others {
		t := s.sum(judgedPeriods)
		if t.violations <= alike*mine.violations+few {
			least = min(least, t.instances)
		}
		from, to := math.Log1p(before.violations), math.Log1p(t.violations)
		beyond := i == 1 && x < from && before.violations <= d.o.Risk*before.count
		if i > 0 && from < to && (from <= x && x < to || beyond) {
			least = min(least, before.instances+(x-from)/(to-from)*(t.instances-before.instances))
		}
		before = t
	}
	return least
}
