package forecast

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// quick are the models that are fitted in no time.
var quick = []string{HoltWinters, ARIMA, Formula, Ridge}

// newForecaster returns one of quick models and 15 steps.
func newForecaster(t testing.TB, series Series) *Forecaster {
	t.Helper()
	f, err := NewForecaster(NewData(series), Options{Horizon: 15, Models: quick, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func fit(t testing.TB, f *Forecaster) {
	t.Helper()
	if err := f.Fit(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func checkSound(t *testing.T, path []Forecast) {
	t.Helper()
	for step, p := range path {
		if !(p.P10 >= 0 && p.P10 <= p.P50 && p.P50 <= p.P90 && p.Confidence >= 0 && p.Confidence <= 1) || math.IsInf(p.P90, 0) {
			t.Fatalf("step %d ahead: %+v", step+1, p)
		}
	}
}

// TestForecastsAreSound feeds values of every kind from the first one on.
func TestForecastsAreSound(t *testing.T) {
	for name, value := range map[string]func(i int, random *rand.Rand) float64{
		"constant": func(int, *rand.Rand) float64 { return 5 },
		"zeros":    func(int, *rand.Rand) float64 { return 0 },
		"missing":  func(int, *rand.Rand) float64 { return nan },
		"mostly absent": func(i int, random *rand.Rand) float64 {
			if random.IntN(10) > 0 {
				return nan
			}
			return random.Float64()
		},
		"tiny":      func(_ int, random *rand.Rand) float64 { return 1e-9 * random.Float64() },
		"huge":      func(_ int, random *rand.Rand) float64 { return 1e15 * random.Float64() },
		"sparse":    func(_ int, random *rand.Rand) float64 { return flag(random.IntN(20) == 0) },
		"explosion": func(i int, _ *rand.Rand) float64 { return math.Exp(float64(i%700) / 10) },
		"outages":   func(i int, random *rand.Rand) float64 { return 1000 * random.Float64() * flag(i%300 > 100) },
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			f := newForecaster(t, Series{Start: monday, Step: 5 * time.Minute})
			checkSound(t, f.Forecast())
			for i := range 3 * 288 {
				f.Append(value(i, random))
				checkSound(t, f.Forecast())
				if i == 100 || i == 700 {
					fit(t, f)
				}
			}
		})
	}
}

// TestFirstMinute has a forecast follow from one value, without confidence.
func TestFirstMinute(t *testing.T) {
	f := newForecaster(t, Series{Start: monday, Step: time.Minute})
	f.Append(120)
	for _, p := range f.Forecast() {
		if p.P50 != 120 || p.Confidence != 0 || p.P90 <= 120 {
			t.Errorf("after one value of 120 the forecast is %+v", p)
		}
	}
}

// TestConfidenceGrows has a service whose traffic hardly varies: confidence comes with forecasts that were right.
func TestConfidenceGrows(t *testing.T) {
	f := newForecaster(t, Series{Start: monday, Step: time.Minute})
	var after []float64
	for i := range 300 {
		f.Append(1000 + float64(i%7))
		if i == 20 || i == 60 || i == 299 {
			after = append(after, f.Forecast()[0].Confidence)
		}
	}
	if !slices.IsSorted(after) || after[0] > 0.6 || after[2] < 0.8 {
		t.Errorf("confidence after 21, 61 and 300 values is %v", after)
	}
}

// TestFallback has models that have all the weight fail.
func TestFallback(t *testing.T) {
	series := noisyDays(10, 0.02, 5)
	f := newForecaster(t, series)
	fit(t, f)
	f.look()
	weights := make([]float64, len(f.members))
	for i, m := range f.members {
		weights[i] = flag(m.Name == Ridge)
		m.sound = m.Name != Ridge && m.Name != LSTM
	}
	k := f.knots[0]
	k.weights = weights
	arima := f.members[slices.IndexFunc(f.members, func(m *member) bool { return m.Name == ARIMA })]
	if got := f.blend(k, 0); got != arima.forecasts[0] {
		t.Errorf("the forecast is %v, not ARIMA's %v", got, arima.forecasts[0])
	}
	arima.sound = false
	if got := f.blend(k, 0); got != f.members[2].forecasts[0] {
		t.Errorf("the forecast is %v, not the moving average's %v", got, f.members[2].forecasts[0])
	}
}

// TestSlowModels has no model be quick enough: only baselines are asked.
func TestSlowModels(t *testing.T) {
	f := newForecaster(t, noisyDays(3, 0.02, 5))
	fit(t, f)
	f.options.Patience = 1 // ns
	for i := range 10 {
		f.Append(float64(1000 + i))
	}
	for i, m := range f.members {
		if m.sound != (i < baselineCount) {
			t.Errorf("model %s is asked: %v", m.Name, m.sound)
		}
	}
	if p := f.Forecast()[0]; p.P50 < 900 || p.P50 > 1100 {
		t.Errorf("the forecast is %+v", p)
	}
	f.options.Patience = time.Hour
	fit(t, f)
	f.Append(1000)
	for _, m := range f.members {
		if !m.sound {
			t.Errorf("model %s is not asked after it was fitted: %s", m.Name, m.Problem)
		}
	}
}

// TestModelsAreSaved has every model forecast the same after it was saved and loaded, and refuse what is damaged.
func TestModelsAreSaved(t *testing.T) {
	options, err := Options{Horizon: 2, Knots: []int{2}, Seed: 1}.complete()
	if err != nil {
		t.Fatal(err)
	}
	data := NewData(noisyDays(2, 0.05, 2))
	n := len(data.Values)
	fresh := options.models()
	for i, m := range options.models() {
		t.Run(m.Name, func(t *testing.T) {
			if err := m.Model.Fit(context.Background(), data); err != nil {
				t.Fatal(err)
			}
			var want, got [2]Quantiles
			if err := m.Model.Predict(data, n, want[:]); err != nil {
				t.Fatal(err)
			}
			saved, err := m.Model.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := fresh[i].Model.UnmarshalBinary(saved[:len(saved)/2]); err == nil {
				t.Error("half of it was loaded without an error")
			}
			if err := fresh[i].Model.UnmarshalBinary(saved); err != nil {
				t.Fatal(err)
			}
			if err := fresh[i].Model.Predict(data, n, got[:]); err != nil {
				t.Fatal(err)
			}
			for k := range want {
				if m.Name == LSTM { // whose state begins later
					want[k], got[k] = Quantiles{P50: math.Round(want[k].P50 / 10)}, Quantiles{P50: math.Round(got[k].P50 / 10)}
				}
				if want[k] != got[k] {
					t.Errorf("step %d was %v and is %v", k+1, want[k], got[k])
				}
			}
		})
	}
}

// TestForecasterIsSaved loads a forecaster whose data begin a day later, as after a restart.
func TestForecasterIsSaved(t *testing.T) {
	series := noisyDays(16, 0.03, 4)
	cut := 14 * 288
	first := newForecaster(t, Series{series.Start, series.Step, series.Values[:cut:cut]})
	fit(t, first)
	for _, v := range series.Values[cut:] {
		first.Append(v)
	}
	saved, err := first.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	second := newForecaster(t, Series{series.Time(288), series.Step, series.Values[288:]})
	if err := second.UnmarshalBinary(saved); err != nil {
		t.Fatal(err)
	}
	for step, want := range first.Forecast() {
		got := second.Forecast()[step]
		if math.Abs(got.P50/want.P50-1) > 0.02 || math.Abs(got.Confidence-want.Confidence) > 0.02 {
			t.Errorf("step %d ahead was %+v and is %+v", step+1, want, got)
		}
	}
	if err := second.UnmarshalBinary(saved[:len(saved)-9]); err == nil {
		t.Error("a damaged state was loaded without an error")
	}
}

// TestDeterministic has all models learn and forecast twice.
func TestDeterministic(t *testing.T) {
	forecast := func() []Forecast {
		f, err := NewForecaster(NewData(noisyDays(2, 0.1, 6)), Options{Horizon: 1, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		fit(t, f)
		for i := range 50 {
			f.Append(1000 + float64(i%13))
		}
		return f.Forecast()
	}
	if diff := cmp.Diff(forecast(), forecast()); diff != "" {
		t.Error(diff)
	}
}

// TestLesson trains in the background while the forecaster goes on.
func TestLesson(t *testing.T) {
	f := newForecaster(t, noisyDays(10, 0.05, 8))
	lesson, err := f.Lesson()
	if err != nil {
		t.Fatal(err)
	}
	priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Background{Share: 0.9}.Do(context.Background(), lesson.Fit) }()
	for i := range 20 {
		f.Append(float64(1000 + i))
		checkSound(t, f.Forecast())
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.Adopt(lesson)
	f.Append(1020)
	for _, m := range f.members {
		if !m.sound || m.Fitted == 0 {
			t.Errorf("model %s is not used after training: %s", m.Name, m.Problem)
		}
	}
	if after, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err != nil || after != priority {
		t.Errorf("the priority of others was %d and is %d (%v)", priority, after, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (Background{}).Do(ctx, lesson.Fit); err != context.Canceled {
		t.Errorf("training that is cancelled returns %v", err)
	}
}

// TestStatus has traffic of a day's pattern: the mean of the last values is worse than the same time yesterday, and says so,
// and ridge is better.
func TestStatus(t *testing.T) {
	f := newForecaster(t, noisyDays(10, 0.02, 12))
	fit(t, f)
	for _, v := range noisyDays(12, 0.02, 13).Values[10*288:] {
		f.Append(v)
	}
	sum := 0.0
	for _, s := range f.Status() {
		sum += s.Weight
		if (s.Weight == 0) != (s.Why != "") {
			t.Errorf("%s has the weight %.2f, for the reason %q", s.Name, s.Weight, s.Why)
		}
		if s.Name == MovingAverage && s.Why != "lately it was not better than seasonal-naive" {
			t.Errorf("%s: %q", s.Name, s.Why)
		}
		if s.Name == Ridge && (s.Weight == 0 || s.Skill <= 0 || s.Fitted.IsZero()) {
			t.Errorf("%+v", s)
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("weights have the sum %g", sum)
	}
}

// TestBackgroundShare has work that would take a processor by itself: it gets its share, however busy the machine is.
func TestBackgroundShare(t *testing.T) {
	const share = 0.2
	var used, took time.Duration
	err := Background{Share: share}.Do(t.Context(), func(ctx context.Context) error {
		began := time.Now()
		before, err := processorTime()
		for err == nil && time.Since(began) < 2*time.Second {
			for spin := time.Now(); time.Since(spin) < time.Millisecond; {
			}
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		after, err := processorTime()
		used, took = after-before, time.Since(began)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if most := time.Duration(share*float64(took)) + 2*burst; used > most {
		t.Errorf("work used %v of a processor in %v; its share is %v", used, took, most)
	}
	if used == 0 {
		t.Error("work did not run")
	}
}

// TestDeclaredEvent doubles traffic by declaration: every model says so from the first occurrence on, and no longer when
// several occurrences have changed nothing.
func TestDeclaredEvent(t *testing.T) {
	const days = 12
	forecast := func(events ...Event) map[string]float64 {
		data := NewData(noisyDays(days, 0.03, 21))
		data.Events = events
		f, err := NewForecaster(data, Options{Horizon: 3, Models: []string{HoltWinters, ARIMA, Formula, Ridge, BoostingSmall}})
		if err != nil {
			t.Fatal(err)
		}
		fit(t, f)
		f.Append(data.Values[0])
		medians := map[string]float64{}
		for _, m := range f.members {
			medians[m.Name] = m.forecasts[2].P50
		}
		return medians
	}
	end := monday.AddDate(0, 0, days)
	sale := func(start time.Time) Event { return Event{"sale", start, time.Hour, 2} }
	without := forecast()
	for name, with := range forecast(sale(end.Add(10 * time.Minute))) {
		if factor := with / without[name]; math.Abs(factor-2) > 0.05 {
			t.Errorf("%s expects %.2f times as much during an event that is declared to double traffic", name, factor)
		}
	}
	var events []Event
	for day := 1; day < days; day += 2 {
		events = append(events, sale(monday.AddDate(0, 0, day)))
	}
	for name, with := range forecast(append(events, sale(end.Add(10*time.Minute)))...) {
		if factor := with / without[name]; factor > 1.25 {
			t.Errorf("%s expects %.2f times as much during an event that changed nothing %d times", name, factor, len(events))
		}
	}
}

// TestConstant has traffic that does not vary, of values whose logarithm and its inverse differ by rounding: it is known.
func TestConstant(t *testing.T) {
	for _, value := range []float64{0, 500, 0.3, 1e6} {
		s := Series{Start: monday, Step: time.Minute, Values: slices.Repeat([]float64{value}, 3*1440)}
		f, err := NewForecaster(NewData(s), Options{Horizon: 15, Models: []string{Formula, Ridge}})
		if err != nil {
			t.Fatal(err)
		}
		fit(t, f)
		for range 200 {
			f.Append(value)
		}
		checkSound(t, f.Forecast())
		if got := f.Forecast()[14]; math.Abs(got.P50-value) > 1e-6*value || value > 0 && got.Confidence < 0.8 {
			t.Errorf("after %g each minute: %+v", value, got)
		}
	}
}

// TestConfidenceFalls has regular traffic stop: a quarter of an hour after the horizon nothing is sure any more.
func TestConfidenceFalls(t *testing.T) {
	s := noisyDays(10, 0.03, 31)
	s.Step = time.Minute
	f, err := NewForecaster(NewData(s), Options{Horizon: 3, Models: []string{Formula, Ridge}})
	if err != nil {
		t.Fatal(err)
	}
	fit(t, f)
	random := rand.New(rand.NewPCG(3, 1))
	for range 300 {
		f.Append(1000 * (1 + 0.03*random.NormFloat64()))
	}
	before := f.Forecast()[2].Confidence
	for i := range 18 {
		f.Append(1000 * math.Pow(0.6, float64(i)))
	}
	if after := f.Forecast()[2].Confidence; before < 0.8 || after > 0.55 {
		t.Errorf("the confidence is %.2f, and %.2f after 18 minutes of collapse", before, after)
	}
}
