package forecast

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Backtest says how a series is forecast as it would have been then: from each step of its end only with what was
// known by that step.
type Backtest struct {
	Options
	Train    float64       // share of the series before the first value that is scored, above 0 and below 1
	Refit    time.Duration // between two fits
	Calendar Calendar
	Progress func(share float64) // is told from 0 to 1 how far it is; may be nil
}

// Report is what a backtest found. Scores are for the last step of the horizon.
type Report struct {
	Points       int               `json:"points"`      // values that are known
	TestPoints   int               `json:"test_points"` // of them scored
	BestBaseline string            `json:"best_baseline"`
	Models       map[string]Scores `json:"models"`
}

// ensembleName is the ensemble's in reports.
const ensembleName = "ensemble"

// warmUp is how long before the first value that is scored the ensemble begins to forecast: it needs to know how
// good the models are.
const warmUp = 7 * Day

// Run forecasts the series. It fails when there is too little to be scored, or when ctx is done.
func (b *Backtest) Run(ctx context.Context, series Series) (*Report, error) {
	options := b.Options
	options.Knots = []int{options.Horizon}
	n := len(series.Values)
	test := int(float64(n) * b.Train)
	begin := max(test-series.Steps(warmUp), test/2, 1)
	data := NewData(Series{series.Start, series.Step, series.Values[:begin:begin]})
	data.Calendar = b.Calendar
	f, err := NewForecaster(data, options)
	if err != nil {
		return nil, err
	}
	f.judgeEach()
	run := newRun(f, test)
	refit := series.Steps(b.Refit)
	for i := begin; i < n; i++ {
		if (i-begin)%refit == 0 {
			if err := f.Fit(ctx); err != nil {
				return nil, err
			}
			run.noteFits()
			f.look()
		}
		run.score(i, series.Values[i])
		f.Append(series.Values[i])
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if b.Progress != nil {
			b.Progress(float64(i+1-begin) / float64(n-begin))
		}
	}
	return run.report(series)
}

// judgeEach has every model calibrated by itself.
func (f *Forecaster) judgeEach() {
	for _, k := range f.knots {
		for range f.members {
			k.calibrators = append(k.calibrators, newCalibrator(k.calibrator.every))
		}
	}
}

// run collects the scores of a backtest.
type run struct {
	f        *Forecaster
	test     int
	ensemble scorer
	models   []scorer
	longest  []time.Duration
	fits     time.Duration
}

func newRun(f *Forecaster, test int) *run {
	return &run{f: f, test: test, models: make([]scorer, len(f.members)), longest: make([]time.Duration, len(f.members))}
}

// noteFits remembers how long fits take.
func (r *run) noteFits() {
	var all time.Duration
	for i, m := range r.f.members {
		r.longest[i] = max(r.longest[i], m.FitTime)
		all += m.FitTime
	}
	r.fits = max(r.fits, all)
}

// score compares the value of step i with what was forecast of it Horizon steps ago.
func (r *run) score(i int, value float64) {
	origin := i + 1 - r.f.options.Horizon
	o := &r.f.pending[(origin+len(r.f.pending))%len(r.f.pending)]
	if i < r.test || math.IsNaN(value) || o.known != origin {
		return
	}
	r.ensemble.add(o.path[len(o.path)-1], value)
	for m := range r.models {
		if !math.IsNaN(o.points[0][m]) {
			r.models[m].add(o.each[0][m].Forecast, value)
		}
	}
}

// report makes the scores of what was counted.
func (r *run) report(series Series) (*Report, error) {
	if r.ensemble.count == 0 {
		return nil, fmt.Errorf("none of the last %d steps can be scored: give a longer series, or train on less of it", len(series.Values)-r.test)
	}
	yesterday := r.yesterday()
	report := &Report{Points: known(series.Values), TestPoints: int(r.ensemble.count), Models: map[string]Scores{}}
	least, all := math.Inf(1), 0.0
	for i, m := range r.f.members {
		scores := r.models[i].scores(yesterday)
		scores.FitSeconds = r.longest[i].Seconds()
		scores.PredictMS = m.predictTime.Seconds() * 1000 / float64(m.predicted)
		all += scores.PredictMS
		if r.models[i].count > 0 {
			report.Models[m.Name] = scores
		}
		if i < baselineCount && scores.MAE < least {
			least, report.BestBaseline = scores.MAE, m.Name
		}
	}
	ensemble := r.ensemble.scores(yesterday)
	ensemble.FitSeconds, ensemble.PredictMS = r.fits.Seconds(), all
	report.Models[ensembleName] = ensemble
	for name, scores := range report.Models {
		scores.Skill = 1 - ratio(scores.MAE, least)
		report.Models[name] = scores
	}
	return report, nil
}

// yesterday returns the mean error of the same time yesterday before the first value that is scored.
func (r *run) yesterday() float64 {
	var s scorer
	day := r.f.data.Steps(Day)
	for i := day; i < r.test; i++ {
		if value := r.f.data.Values[i]; !math.IsNaN(value) && !math.IsNaN(r.f.data.Values[i-day]) {
			s.add(Forecast{Quantiles: Quantiles{P50: r.f.data.Values[i-day]}}, value)
		}
	}
	return s.scores(0).MAE
}

func known(values []float64) int {
	count := 0
	for _, v := range values {
		count += int(flag(!math.IsNaN(v)))
	}
	return count
}
