package scale

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
)

// Pilot decides for one service that runs: it learns from its past, first as if it had decided in it, and goes on step by step.
// It is safe for concurrent use.
type Pilot struct {
	seed uint64

	mu      sync.Mutex
	options Options
	data    *forecast.Data
	demand  *Demand // nil until it has learnt
	decider *Decider
}

// LearntFrom is how much of the past is learnt from: what Demand learns, and the week before that its features know.
const LearntFrom = 26 * forecast.Day

// NewPilot returns one that reacts only, before Learn. The options must have passed Check; their step is the data's, which the pilot takes over.
func NewPilot(o Options, data *forecast.Data, seed uint64) *Pilot {
	return &Pilot{seed: seed, options: o, data: data, decider: NewDecider(o)}
}

// Learns says that there are forecasts.
func (p *Pilot) Learns() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.demand != nil
}

// Plan sets what is planned to take place.
func (p *Pilot) Plan(events []forecast.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data.Events = events
}

// Observe takes how many requests came in the step around a time, NaN if that is not known. Steps that are left out are not
// known either; one that is there already is ignored.
func (p *Pilot) Observe(at time.Time, requests float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := at.Truncate(p.options.Step)
	if begin.Before(p.end()) {
		return
	}
	for p.end().Before(begin) {
		p.append(math.NaN())
	}
	p.append(requests)
}

func (p *Pilot) end() time.Time { return p.data.Time(len(p.data.Values)) }

func (p *Pilot) append(requests float64) {
	p.data.Append(requests)
	var ahead *Distribution
	if p.demand != nil {
		ahead = p.demand.step()
	}
	p.decider.Observe(requests, ahead)
}

// step observes what was appended to the data, and returns what is forecast, nil when nothing is.
func (d *Demand) step() *Distribution {
	d.Observe()
	if ahead, ok := d.Ahead(); ok {
		return &ahead
	}
	return nil
}

// Decide is Decider.Decide.
func (p *Pilot) Decide(now time.Time, load float64, ready, total int) Decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.decider.Decide(now, load, ready, total)
}

// Learn learns anew from the past. The first time half of it is learnt from, and the other half tells whether the
// forecasts would have earned their keep. It returns forecast.ErrTooShort when that is too little, or soon after ctx is done its error; then
// all is as before.
func (p *Pilot) Learn(ctx context.Context) error {
	p.mu.Lock()
	data, _ := p.data.Tail(p.data.Steps(LearntFrom))
	known := len(data.Values)
	old, options := p.demand, p.options
	p.mu.Unlock()

	var demand *Demand
	var decider *Decider
	var err error
	if old == nil {
		demand, decider, err = rehearse(ctx, data, options, p.seed)
	} else {
		demand = old.Successor(data)
		err = demand.Fit(ctx)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	missed := slices.Clone(p.data.Values[p.data.Steps(data.Time(known).Sub(p.data.Start)):])
	data.Events = p.data.Events
	p.data, p.demand = data, demand
	if decider == nil {
		for _, v := range missed { // the decider has seen them
			data.Append(v)
			demand.Observe()
		}
		return nil
	}
	p.decider = decider
	for _, v := range missed {
		p.append(v)
	}
	return nil
}

// rehearse decides along the second half of the data, by what was known at each time.
func rehearse(ctx context.Context, all *forecast.Data, o Options, seed uint64) (*Demand, *Decider, error) {
	values := slices.Clone(all.Values)
	first := slices.IndexFunc(values, func(v float64) bool { return !math.IsNaN(v) })
	if first < 0 {
		return nil, nil, forecast.ErrTooShort
	}
	half := first + (len(values)-first)/2
	data := forecast.NewData(forecast.Series{Start: all.Start, Step: all.Step, Values: values[:half]})
	data.Calendar, data.Events = all.Calendar, all.Events
	demand, decider := NewDemand(data, o.Lead(), seed), NewDecider(o)
	if err := demand.Fit(ctx); err != nil {
		return nil, nil, err
	}
	fleet := NewFleet(1, o.Boot)
	load := math.NaN()
	for i, v := range values[half:] {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		for k := range int(o.Step / Period) {
			now := data.Time(half + i).Add(time.Duration(k) * Period)
			fleet.Advance(now)
			fleet.Scale(now, decider.Decide(now, load, fleet.Ready, fleet.Total()).Instances)
			load = v / o.Step.Seconds()
		}
		data.Append(v)
		decider.Observe(v, demand.step())
	}
	demand = demand.Successor(all)
	if err := demand.Fit(ctx); err != nil {
		return nil, nil, err
	}
	demand.Observe()
	return demand, decider, nil
}
