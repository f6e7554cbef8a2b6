package forecast

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
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

// skill is by what part a model's error is below that of the best baseline on the same values, and the standard error
// of that. Few forecasts say little: some of the baseline's own are added to them.
type skill struct{ value, doubt float64 }

// skills returns the skill of each model; NaN for one that made no forecasts.
func (r *record) skills() []skill {
	best := r.best()
	baseline := r.sum(best)
	typical := prior * baseline.Errors / math.Max(float64(baseline.Count), 1)
	skills := make([]skill, len(r.Current))
	for i := range skills {
		t := r.sum(i)
		skills[i] = skill{math.NaN(), math.NaN()}
		if t.Count > 0 {
			skills[i].value = 1 - ratio(t.Errors+typical, t.Baselines[best]+typical)
			skills[i].doubt = ratio(r.doubt(i, best), t.Baselines[best]+typical)
		}
	}
	return skills
}

// doubt returns the standard error of the sum of what a model's errors are below the best baseline's, from how it
// differs among periods.
func (r *record) doubt(model, best int) float64 {
	var gains []float64
	for _, period := range append(r.Periods[:len(r.Periods):len(r.Periods)], r.Current) {
		if t := period[model]; t.Count > 0 {
			gains = append(gains, t.Baselines[best]-t.Errors)
		}
	}
	if len(gains) < 2 {
		return 0
	}
	return stat.StdDev(gains, nil) * math.Sqrt(float64(len(gains)))
}

// ratio of two errors; two that are zero are equal.
func ratio(a, b float64) float64 {
	const none = 1e-9
	return (a + none) / (b + none)
}

// weights returns what part each model has in the ensemble: none when it was not clearly better than the best baseline.
func (r *record) weights() []float64 {
	skills, best := r.skills(), r.best()
	skills[best] = skill{}
	weights := make([]float64, len(skills))
	sum := 0.0
	for i, s := range skills {
		if i == best || s.value > 2*s.doubt {
			weights[i] = math.Pow(max(1-s.value, 0.01), -sharpness)
			sum += weights[i]
		}
	}
	for i := range weights {
		weights[i] /= sum
	}
	return weights
}
