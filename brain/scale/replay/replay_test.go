package replay

import (
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
)

var start = time.Date(2026, 10, 5, 0, 0, 0, 0, time.UTC)

// options are of instances that serve 10 requests per second, so that a step of a minute with 600 requests needs just more than one.
func options() Options {
	return Options{Rate: 10, Boot: 3 * time.Minute, Objective: time.Second, Target: 0.7, Risk: 0.01, Price: 2, Seed: 1}
}

func replay(t *testing.T, values []float64, o Options) *Report {
	t.Helper()
	r, err := Run(t.Context(), &forecast.Series{Start: start, Step: time.Minute, Values: values}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAccount works a replay by hand. 300 requests a minute are 5 per second, which one instance answers in 0.2 s on average; 1,500 are
// 25, for which it takes three (0.22 s; two cannot). The rule aims at 0.5: it has one instance at first, and orders three more at once
// (5 are desired, 4 more and no more than that are allowed) 15 s after traffic has risen, which serve three minutes later.
func TestAccount(t *testing.T) {
	values := slices.Repeat([]float64{300}, 10)
	values = append(values, slices.Repeat([]float64{1500}, 10)...)
	o := options()
	o.Policies, o.Target = []string{Reactive, Oracle}, 0.5
	r := replay(t, values, o)
	got := r.Policies[Reactive]
	// 5 are desired of 25 per second at 0.5: from 10:15 on. Ready is one until 13:15, so 195 s of minutes 10, 11, 12 and 13 are too few.
	const hours = (10*60+15)/3600.0 + 5*(9*60+45)/3600.0
	if math.Abs(got.InstanceHours-hours) > 1e-9 || math.Abs(got.Cost-2*hours) > 1e-9 {
		t.Errorf("%g instance hours for %g, not %g", got.InstanceHours, got.Cost, hours)
	}
	if got.ViolationMinutes != 4 || got.RecoveryS != 195 || got.ScaleEvents != 1 {
		t.Errorf("%g minutes of violation, %g s each, %d events", got.ViolationMinutes, got.RecoveryS, got.ScaleEvents)
	}
	const needed = (10 + 3*10) / 60.0
	if math.Abs(got.Overprovision-(hours/needed-1)) > 1e-9 {
		t.Errorf("overprovision %g", got.Overprovision)
	}
	// None of the requests is answered while one instance has 25 per second: 13 quarters of a minute, of 10 minutes of 300 and 10 of 1,500.
	if want := 13 * 375.0 / (10*300 + 10*1500); math.Abs(got.SlowShare-want) > 0.01 {
		t.Errorf("%g of the requests are slow, about %g should be", got.SlowShare, want)
	}
	oracle := r.Policies[Oracle]
	// The two more are ordered three minutes before.
	if want := (7 + 3*13) / 60.0; math.Abs(oracle.InstanceHours-want) > 1e-9 || oracle.ViolationMinutes != 0 {
		t.Errorf("the oracle has %g instance hours, not %g, and %g minutes of violation", oracle.InstanceHours, want, oracle.ViolationMinutes)
	}
}

// TestGap: where traffic is not known everyone keeps what there is, and nothing is scored.
func TestGap(t *testing.T) {
	values := slices.Repeat([]float64{1500}, 30)
	gap := slices.Concat(values, slices.Repeat([]float64{math.NaN()}, 60), values)
	o := options()
	with, without := replay(t, gap, o), replay(t, slices.Concat(values, values), o)
	for _, name := range Policies {
		a, b := with.Policies[name], without.Policies[name]
		if math.Abs(a.InstanceHours-b.InstanceHours) > 1e-9 || a.ViolationMinutes != b.ViolationMinutes || a.ScaleEvents != b.ScaleEvents {
			t.Errorf("%s: with a gap %+v, without %+v", name, a, b)
		}
	}
	if _, err := Run(t.Context(), &forecast.Series{Start: start, Step: time.Minute, Values: gap[30:90]}, o); err == nil {
		t.Error("a trace of which nothing is known is scored")
	}
}

// daily is testdata's daily pattern: a threefold swing with 5 % noise.
func daily(days int, level float64) []float64 {
	random := rand.New(rand.NewPCG(9, 1))
	var values []float64
	for i := range days * 1440 {
		values = append(values, math.Round(level*(1+0.5*math.Sin(2*math.Pi*float64(i)/1440))*(1+0.05*random.NormFloat64())))
	}
	return values
}

// TestDailyPattern: without any tuning a fifth less than the rule at its customary target, with 1 % of the minutes in violation at
// most; and the oracle is the best.
func TestDailyPattern(t *testing.T) {
	o := options()
	o.Rate, o.Objective, o.Train = 200, 100*time.Millisecond, 0.3
	r := replay(t, daily(8, 1_200_000), o)
	p, reactive := r.Policies[Predictive], r.Policies[Reactive]
	if saved := 1 - p.InstanceHours/reactive.InstanceHours; saved < 0.2 || p.ViolationMinutes > 0.01*float64(len(r.Track)) {
		t.Errorf("%.1f %% saved, %g of %d minutes in violation", 100*saved, p.ViolationMinutes, len(r.Track))
	}
	for name, s := range r.Policies {
		if best := r.Policies[Oracle]; best.ViolationMinutes > s.ViolationMinutes || s.ViolationMinutes == 0 && best.InstanceHours > s.InstanceHours {
			t.Errorf("%s (%+v) is better than the oracle (%+v)", name, s, best)
		}
	}
}

// TestDeterministic: the same trace and seed give the same figures.
func TestDeterministic(t *testing.T) {
	o := options()
	o.Rate, o.Objective = 200, 100*time.Millisecond
	values := daily(3, 120_000)
	if a, b := replay(t, values, o), replay(t, values, o); !reflect.DeepEqual(a.Policies, b.Policies) {
		t.Errorf("%+v, and again %+v", a.Policies, b.Policies)
	}
}

// BenchmarkNASA has a small site's traffic, bursts and days that were not recorded. What it reports is by what part plans cost less
// than the rule at as many violations, on average of its targets; the goal is 8 %.
func BenchmarkNASA(b *testing.B) {
	file, err := os.Open("../../forecast/testdata/nasa-http-1995.csv.gz")
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	times, values, err := history.ReadCSV(file, "")
	if err != nil {
		b.Fatal(err)
	}
	series, err := forecast.Resample(times, values, time.Minute, forecast.MissingAuto)
	if err != nil {
		b.Fatal(err)
	}
	for i := range series.Values {
		series.Values[i] *= 1000
	}
	o := options()
	o.Rate, o.Objective, o.Train, o.Curve, o.Policies = 200, 100*time.Millisecond, 0.3, true, []string{Reactive, Predictive}
	for b.Loop() {
		r, err := Run(b.Context(), series, o)
		if err != nil {
			b.Fatal(err)
		}
		saved, compared := Saved(r.Curves[Reactive], r.Curves[Predictive])
		b.ReportMetric(100*saved, "%saved")
		b.ReportMetric(float64(compared), "targets")
	}
}
