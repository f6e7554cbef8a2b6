package forecast

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestScores has four forecasts whose scores are reckoned by hand.
func TestScores(t *testing.T) {
	var s scorer
	for _, x := range []struct{ low, middle, high, confidence, value float64 }{
		{90, 100, 110, 0.9, 105}, // 5 off: within 10 %
		{90, 100, 110, 0.9, 115}, // 15 off: within 20 %
		{0, 0, 0, 0.9, 0},        // right
		{10, 30, 50, 0.1, 10},    // 20 off
	} {
		s.add(Forecast{Quantiles{x.low, x.middle, x.high}, x.confidence}, x.value)
	}
	want := Scores{
		MAE:      40.0 / 4,
		SMAPE:    (10.0/205 + 30.0/215 + 0 + 40.0/40) / 4,
		MASE:     10.0 / 20,
		Within10: 2.0 / 4, Within20: 3.0 / 4,
		// Of 10, 50 and 90 %: 1.5+2.5+0.5, 2.5+7.5+4.5, 0, and 0+10+4.
		Pinball:    (4.5 + 14.5 + 0 + 14) / 3 / 4,
		Coverage80: 3.0 / 4, ConfidentShare: 3.0 / 4, ConfidentWithin10: 2.0 / 3,
		Calibration: (math.Abs(2.7-2) + 0.1) / 4,
	}
	if diff := cmp.Diff(want, s.scores(20), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Error(diff)
	}
}

func TestIsotonic(t *testing.T) {
	got := isotonic([]float64{1, 3, 1, 4}, []float64{4, 4, 4, 4})
	if diff := cmp.Diff([]float64{0.25, 0.5, 0.5, 1}, got); diff != "" {
		t.Error(diff)
	}
}

// TestCalibration has a model that always says the same of values whose spread becomes three times as much: the interval
// must hold 80 % of them, and the confidence what it says.
func TestCalibration(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	c := newCalibrator(12)
	q := Quantiles{900, 1000, 1100}
	var s [2]scorer
	for i := range 12000 {
		half := i / 6000
		value := 1000 * math.Exp((0.03+0.06*float64(half))*random.NormFloat64())
		calibrated, confidence, j := c.apply(q, false)
		if i%6000 >= 1000 {
			s[half].add(Forecast{calibrated, confidence}, value)
		}
		c.observe(j, value)
	}
	for half := range s {
		scores := s[half].scores(1)
		if scores.Coverage80 < 0.78 || scores.Coverage80 > 0.83 || scores.Calibration > 0.05 {
			t.Errorf("half %d: the interval covers %.3f, and confidence is off by %.3f", half+1, scores.Coverage80, scores.Calibration)
		}
	}
}

// TestWeights has a model that is better than the best baseline, a worse one, one that is as good, and one without forecasts.
func TestWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	r := newRecord(baselineCount + 4)
	for range 28 * 72 {
		e := math.Abs(random.NormFloat64())
		other := math.Abs(random.NormFloat64())
		r.observe([]float64{2 * e, 3 * e, e, 0.9 * e, 1.1 * e, other, nan}, 72)
	}
	weights := r.weights()
	if r.best() != 2 {
		t.Errorf("the best baseline is number %d", r.best())
	}
	for i, weight := range weights {
		if used := i == 2 || i == 3; used != (weight > 0) {
			t.Errorf("model %d has the weight %.3f", i, weight)
		}
	}
	if got, want := weights[3]/weights[2], math.Pow(0.9, -sharpness); math.Abs(got/want-1) > 0.05 {
		t.Errorf("a model with nine tenths of the error has %.2f times the weight, not %.2f", got, want)
	}
}

// TestBacktests forecasts traffic of many kinds, of 21 days, with models that learn in no time.
func TestBacktests(t *testing.T) {
	for name, value := range map[string]func(wave float64, i int, r *rand.Rand) float64{
		"daily, 3 % noise": func(wave float64, _ int, r *rand.Rand) float64 { return (1000 + 600*wave) * (1 + 0.03*r.NormFloat64()) },
		"noise":            func(_ float64, _ int, r *rand.Rand) float64 { return 1000 * (1 + 0.1*r.NormFloat64()) },
		"weekends": func(wave float64, i int, r *rand.Rand) float64 {
			return (200 + 120*wave) * (1 - 0.6*flag(i/288%7 >= 5)) * (1 + 0.08*r.NormFloat64())
		},
		"a burst every hour": func(wave float64, i int, r *rand.Rand) float64 {
			return 100 + 40*wave + 10*r.NormFloat64() + flag(i%12 == 3)*(300+30*r.NormFloat64())
		},
		"growth": func(wave float64, i int, r *rand.Rand) float64 {
			return (100 + float64(i)/10) * (1 + 0.4*wave) * (1 + 0.08*r.NormFloat64())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			s := Series{Start: monday, Step: 5 * time.Minute}
			for i := range 21 * 288 {
				s.Values = append(s.Values, max(value(math.Sin(2*math.Pi*float64(i)/288), i, r), 0))
			}
			b := Backtest{Options: Options{Horizon: 3, Models: quick, Seed: 1}, Train: 0.6, Refit: 7 * Day}
			report, err := b.Run(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			scores := report.Models[ensembleName]
			if scores.Skill < 0 {
				t.Errorf("the ensemble is worse than %s: skill %.3f", report.BestBaseline, scores.Skill)
			}
			if scores.Coverage80 < 0.78 || scores.Coverage80 > 0.83 {
				t.Errorf("the interval covers %.3f", scores.Coverage80)
			}
			if scores.ConfidentShare > 0.01 && scores.ConfidentWithin10 < 0.78 {
				t.Errorf("of %.3f forecasts that were confident %.3f were within 10 %%", scores.ConfidentShare, scores.ConfidentWithin10)
			}
			if name == "daily, 3 % noise" && (scores.Within10 < 0.95 || scores.ConfidentShare < 0.95) {
				t.Errorf("%.3f of forecasts are within 10 %%, and %.3f are confident", scores.Within10, scores.ConfidentShare)
			}
		})
	}
}
