package replay

import (
	"math"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/scale"
)

// tick is what a policy knows when it decides, every scale.Period.
type tick struct {
	now   time.Time
	step  int     // that goes on
	first bool    // the one before has just ended
	load  float64 // requests per second in the last scale.Period, NaN when that is not known
	fleet *scale.Fleet
}

// policy returns how many instances there shall be.
type policy func(tick) int

// policy returns one by its name, with a value of its knob.
func (r *run) policy(name string, knob float64) policy {
	switch name {
	case Predictive:
		return r.predictive(knob)
	case Scheduled:
		return r.scheduled()
	case Oracle:
		return r.oracle()
	}
	return r.reactive(knob)
}

func (r *run) reactive(target float64) policy {
	rule := scale.Reactive{Target: target}
	return func(t tick) int {
		if math.IsNaN(t.load) {
			return t.fleet.Total()
		}
		return rule.Desired(t.now, t.load, r.Rate, t.fleet.Ready, t.fleet.Total())
	}
}

func (r *run) predictive(risk float64) policy {
	decider := scale.NewDecider(r.decider(risk))
	return func(t tick) int {
		if t.first && t.step > 0 {
			decider.Observe(r.series.Values[t.step-1], r.ahead[t.step-1])
		}
		return decider.Decide(t.now, t.load, t.fleet.Ready, t.fleet.Total()).Instances
	}
}

// scheduled has what was needed a week before, and reacts where that is not known.
func (r *run) scheduled() policy {
	react := r.reactive(r.Target)
	week := r.series.Steps(7 * forecast.Day)
	return func(t tick) int {
		reactive := react(t)
		need := 0
		for i := t.step; i < t.step+r.lead; i++ {
			if i < week || r.need[i-week] == 0 {
				return reactive
			}
			need = max(need, r.need[i-week])
		}
		return need
	}
}

// oracle has what is needed, ordered in time. Where that is not known it keeps what is needed before and after.
func (r *run) oracle() policy {
	needs := make([]int, len(r.need)+r.lead)
	last := 1
	for i := range needs {
		if i < len(r.need) && r.need[i] > 0 {
			last = r.need[i]
		}
		needs[i] = last
	}
	return func(t tick) int {
		need := 0
		for i := t.step; i < t.step+r.lead; i++ {
			need = max(need, needs[i])
		}
		return need
	}
}

// simulate has a policy run a fleet through the series. What it had at the end of each step that is scored is told to had, which
// may be nil.
func (r *run) simulate(decide policy, had func(step, ready int)) Score {
	fleet := scale.NewFleet(1, r.Boot)
	var s Score
	var requests, slow, needed, seconds float64
	episodes, violated := 0, false
	const minute = int(time.Minute / scale.Period) // in ticks
	lastMinute := -1
	load := math.NaN()
	for i, v := range r.series.Values {
		scored := i >= r.begin && r.need[i] > 0
		for k := range r.ticks {
			now := r.series.Time(i).Add(time.Duration(k) * scale.Period)
			fleet.Advance(now)
			if fleet.Scale(now, decide(tick{now, i, k == 0, load, fleet})) && scored {
				s.ScaleEvents++
			}
			load = v / r.series.Step.Seconds()
			if !scored {
				violated = false
				continue
			}
			s.InstanceHours += float64(fleet.Total()) * scale.Period.Hours()
			needed += float64(r.need[i]) * scale.Period.Hours()
			requests += load
			slow += load * r.slow(fleet.Ready, load)
			if fleet.Ready >= r.need[i] {
				violated = false
				continue
			}
			seconds += scale.Period.Seconds()
			if m := (i*r.ticks + k) / minute; m != lastMinute {
				s.ViolationMinutes++
				lastMinute = m
			}
			if !violated {
				episodes++
			}
			violated = true
		}
		if i >= r.begin && had != nil {
			had(i, fleet.Ready)
		}
	}
	s.Cost = s.InstanceHours * r.Price
	s.SlowShare = slow / max(requests, 1)
	s.Overprovision = s.InstanceHours/needed - 1
	s.RecoveryS = seconds / float64(max(episodes, 1))
	return s
}

// slow is the share of the requests that are answered later than the objective.
func (r *run) slow(ready int, load float64) float64 {
	return r.queue.Longer(ready, load, r.Objective.Seconds())
}
