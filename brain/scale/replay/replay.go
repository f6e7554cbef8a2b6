// Package replay tells what scaling policies would have done on traffic of the past, at what cost, and how often the
// objective would have been missed.
package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/scale"
)

// The policies.
const (
	Reactive   = "reactive"   // Kubernetes' HorizontalPodAutoscaler
	Predictive = "predictive" // scale.Decider
	Scheduled  = "scheduled"  // what the same time last week needed
	Oracle     = "oracle"     // knows the future
)

// Policies are all of them.
var Policies = []string{Reactive, Predictive, Scheduled, Oracle}

// Options of Run.
type Options struct {
	Rate      float64       // requests per second that one instance serves
	Boot      time.Duration // from the order of an instance until it serves; it is paid for from the order on
	Objective time.Duration // mean response time (M/M/c) that is to be kept
	Train     float64       // share of the series, 0 to below 1, that is not scored
	Target    float64       // utilisation that Reactive aims at
	Risk      float64       // share of the time in which Predictive may miss the objective
	Price     float64       // of an instance for an hour
	Policies  []string      // nil is all
	Curve     bool          // sweep the policies' own knobs too
	Calendar  forecast.Calendar
	Seed      uint64
	Progress  func(share float64) // is told from 0 to 1 how far it is; may be nil
}

// Report is what policies did, by their names, on the part of the series that is scored.
type Report struct {
	Policies map[string]Score   `json:"policies"`
	Curves   map[string][]Point `json:"curves,omitempty"`
	Track    []Step             `json:"-"` // every step that is scored
}

// Score is what a policy did. Steps of which the requests are not known are left out.
type Score struct {
	InstanceHours    float64 `json:"instance_hours"`    // with those that boot
	Cost             float64 `json:"cost"`              // instance hours x price
	ViolationMinutes float64 `json:"violation_minutes"` // in which the mean response time was above the objective
	SlowShare        float64 `json:"slow_share"`        // of the requests, answered later than the objective
	Overprovision    float64 `json:"overprovision"`     // instances beyond what was needed / those that were, in hours
	ScaleEvents      int     `json:"scale_events"`
	RecoveryS        float64 `json:"recovery_s"` // mean length of the times in which the objective was missed, seconds
}

// Point is what a policy did with one value of its knob: the target of Reactive, the risk of Predictive.
type Point struct {
	Knob             float64 `json:"knob"`
	InstanceHours    float64 `json:"instance_hours"`
	ViolationMinutes float64 `json:"violation_minutes"`
}

// Step is how many instances one step needed and had.
type Step struct {
	Time time.Time
	Need float64            // NaN when it is not known
	Had  map[string]float64 // by policy, serving at its end
}

// The knobs that curves sweep.
var (
	Targets = []float64{0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9}
	Risks   = []float64{0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03,
		0.04, 0.06, 0.08, 0.11, 0.15, 0.2, 0.3, 0.4, 0.5}
)

// mostWork is the part of it that forecasting is.
const mostWork = 0.9

// refit is after how long the forecast learns anew.
const refit = 3 * forecast.Day

// run is one replay.
type run struct {
	Options
	series *forecast.Series
	begin  int // the first step that is scored
	lead   int
	queue  scale.Queue
	need   []int // by step, 0 is not known
	ahead  []*scale.Distribution
	ticks  int // in a step
}

// Run replays a series of requests per step.
func Run(ctx context.Context, series *forecast.Series, o Options) (*Report, error) {
	r := &run{Options: o, series: series, queue: scale.NewQueue(o.Rate)}
	if r.Policies == nil {
		r.Policies = Policies
	}
	options := r.decider(o.Risk)
	if err := options.Check(); err != nil {
		return nil, err
	}
	if series.Step%scale.Period != 0 {
		return nil, fmt.Errorf("steps of %v are no multiple of %v, in which decisions are made", series.Step, scale.Period)
	}
	r.ticks, r.lead = int(series.Step/scale.Period), options.Lead()
	r.begin = int(o.Train * float64(len(series.Values)))
	sizer := scale.NewSizer(r.queue, o.Objective)
	r.need = make([]int, len(series.Values))
	scored := false
	for i, v := range series.Values {
		if !math.IsNaN(v) {
			r.need[i] = sizer.Need(v / series.Step.Seconds())
			scored = scored || i >= r.begin
		}
	}
	if !scored {
		return nil, errors.New("there is nothing to score: the trace is too short, or its end is not known")
	}
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	return r.report(ctx)
}

func (r *run) decider(risk float64) scale.Options {
	return scale.Options{Queue: r.queue, Objective: r.Objective, Risk: risk, Boot: r.Boot, Step: r.series.Step}
}

// look forecasts, with what was known by then, each step from lead steps before.
func (r *run) look(ctx context.Context) error {
	if !slices.Contains(r.Policies, Predictive) {
		return nil
	}
	data := forecast.NewData(forecast.Series{Start: r.series.Start, Step: r.series.Step})
	data.Calendar = r.Calendar
	demand := scale.NewDemand(data, r.lead, r.Seed)
	r.ahead = make([]*scale.Distribution, len(r.series.Values))
	next := r.series.Steps(forecast.Day)
	for i, v := range r.series.Values {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		data.Append(v)
		demand.Observe()
		if i >= next {
			if err := demand.Fit(ctx); err != nil && !errors.Is(err, forecast.ErrTooShort) {
				return err
			}
			next = i + r.series.Steps(refit)
			if i < 8*r.series.Steps(forecast.Day) {
				next = i + r.series.Steps(forecast.Day) // in the first week there is much to learn
			}
			demand.Observe()
		}
		if d, ok := demand.Ahead(); ok {
			r.ahead[i] = &d
		}
		if r.Progress != nil {
			r.Progress(mostWork * float64(i) / float64(len(r.series.Values)))
		}
	}
	return nil
}

// report simulates all policies.
func (r *run) report(ctx context.Context) (*Report, error) {
	report := &Report{Policies: make(map[string]Score)}
	for i := r.begin; i < len(r.need); i++ {
		need := float64(r.need[i])
		if r.need[i] == 0 {
			need = math.NaN()
		}
		report.Track = append(report.Track, Step{r.series.Time(i), need, make(map[string]float64)})
	}
	for _, name := range r.Policies {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		knob := r.Target
		if name == Predictive {
			knob = r.Risk
		}
		report.Policies[name] = r.simulate(r.policy(name, knob), func(step int, ready int) {
			report.Track[step-r.begin].Had[name] = float64(ready)
		})
	}
	if r.Curve {
		report.Curves = make(map[string][]Point)
		for name, knobs := range map[string][]float64{Reactive: Targets, Predictive: Risks} {
			if slices.Contains(r.Policies, name) {
				report.Curves[name] = r.curve(ctx, name, knobs)
			}
		}
	}
	if r.Progress != nil {
		r.Progress(1)
	}
	return report, ctx.Err()
}

// curve simulates a policy with each value of its knob, some at a time.
func (r *run) curve(ctx context.Context, name string, knobs []float64) []Point {
	points := make([]Point, len(knobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, knob := range knobs {
		group.Go(func() error {
			if ctx.Err() == nil {
				s := r.simulate(r.policy(name, knob), nil)
				points[i] = Point{knob, s.InstanceHours, s.ViolationMinutes}
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return points
}
