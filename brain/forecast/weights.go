package forecast

import (
	"math"
	"slices"
)

// record keeps how far off each model was for one number of steps ahead, in periods of six hours over the last week.
type record struct {
	Periods [][]tally // the latest last; by model
	Current []tally
	Filled  int // values in the current period
}

// tally is of one model, and of the best baselines on the same values.
type tally struct {
	Count     int
	Errors    float64                // sum of absolute errors
	Baselines [baselineCount]float64 // the same of each baseline
}

const (
	baselineCount = 3
	weekPeriods   = 28 // of six hours
	sharpness     = 24 // power of the error that a weight falls with, see docs/forecast.md
	prior         = 24 // forecasts that a model counts to have been as good as the baseline in
)

func newRecord(models int) *record { return &record{Current: make([]tally, models)} }

// observe adds the absolute errors of a value's forecasts, NaN where a model had none. The first ones are the baselines'.
// period is the number of values of a period.
func (r *record) observe(errors []float64, period int) {
	for i, e := range errors {
		if math.IsNaN(e) {
			continue
		}
		t := &r.Current[i]
		t.Count++
		t.Errors += e
		for b := range t.Baselines {
			t.Baselines[b] += errors[b]
		}
	}
	if r.Filled++; r.Filled >= period {
		r.Periods = append(r.Periods, slices.Clone(r.Current))
		if len(r.Periods) > weekPeriods {
			r.Periods = slices.Delete(r.Periods, 0, 1)
		}
		clear(r.Current)
		r.Filled = 0
	}
}

// sum returns a model's tally over all periods.
func (r *record) sum(model int) tally {
	sum := r.Current[model]
	for _, p := range r.Periods {
		sum.Count += p[model].Count
		sum.Errors += p[model].Errors
		for b, e := range p[model].Baselines {
			sum.Baselines[b] += e
		}
	}
	return sum
}

// best returns the baseline with the least error.
func (r *record) best() int {
	best, least := baselineCount-1, math.Inf(1) // a mean of some values until something is known
	for b := baselineCount - 1; b >= 0; b-- {
		if t := r.sum(b); t.Count > 0 && t.Errors/float64(t.Count) < least {
			best, least = b, t.Errors/float64(t.Count)
		}
	}
	return best
}

// skills returns for each model by what part its error is below that of the best baseline on the same values; NaN for
// one that made no forecasts. Few forecasts say little: some of the baseline's own are added to them.
func (r *record) skills() []float64 {
	best := r.best()
	baseline := r.sum(best)
	typical := baseline.Errors / math.Max(float64(baseline.Count), 1)
	skills := make([]float64, len(r.Current))
	for i := range skills {
		t := r.sum(i)
		skills[i] = math.NaN()
		if t.Count > 0 {
			skills[i] = 1 - ratio(t.Errors+prior*typical, t.Baselines[best]+prior*typical)
		}
	}
	return skills
}

// ratio of two errors; two that are zero are equal.
func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / max(b, 1e-9)
}

// weights returns what part each model has in the ensemble: none when it was worse than the best baseline.
func (r *record) weights() []float64 {
	skills := r.skills()
	weights := make([]float64, len(skills))
	sum := 0.0
	for i, s := range skills {
		if s >= 0 {
			weights[i] = math.Pow(max(1-s, 0.01), -sharpness)
			sum += weights[i]
		}
	}
	if sum == 0 {
		weights[r.best()], sum = 1, 1
	}
	for i := range weights {
		weights[i] /= sum
	}
	return weights
}
