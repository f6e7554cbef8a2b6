package forecast

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// noisyDays returns days of traffic in 5-minute steps: a wave of a day around 1000 with relative noise.
func noisyDays(days int, noise float64, seed uint64) Series {
	random := rand.New(rand.NewPCG(seed, 1))
	s := Series{Start: monday, Step: 5 * time.Minute}
	for i := range days * 288 {
		wave := 1000 + 600*math.Sin(2*math.Pi*float64(i)/288)
		s.Values = append(s.Values, max(wave*(1+noise*random.NormFloat64()), 0))
	}
	return s
}

// TestFeaturesAreDocumented compares docs/forecast.md with the code.
func TestFeaturesAreDocumented(t *testing.T) {
	if FeatureCount != 47 {
		t.Errorf("there are %d features, not 47", FeatureCount)
	}
	text, err := os.ReadFile("../../docs/forecast.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range Features() {
		if row := "| `" + f.Name + "` | " + f.Unit + " | " + f.Definition + " |\n"; !strings.Contains(string(text), row) {
			t.Errorf("docs/forecast.md lacks the row\n%s", row)
		}
		if slices.Contains(names, f.Name) {
			t.Errorf("two features are called %s", f.Name)
		}
		names = append(names, f.Name)
	}
}

// TestFeaturesKnowNoFuture has everything after the moment be something else.
func TestFeaturesKnowNoFuture(t *testing.T) {
	whole := noisyDays(10, 0.1, 1)
	n := 9*288 + 100
	part := NewData(Series{whole.Start, whole.Step, whole.Values[:n:n]})
	other := NewData(Series{whole.Start, whole.Step, whole.Values[:n:n]})
	for range 500 {
		other.Append(7)
	}
	for _, h := range []int{1, 3, 15, 300} {
		var a, b [FeatureCount]float32
		now, later := part.moment(n, h), other.moment(n, h)
		now.row(a[:])
		later.row(b[:])
		for i := range a {
			if a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]) {
				t.Errorf("%s, %d steps ahead, is %g, and %g when later values are known", features[i].Name, h, a[i], b[i])
			}
		}
	}
}

// TestFeatureValues compares some with what they are by their definition: the value of step i is i, and 1000 on Mondays at noon.
func TestFeatureValues(t *testing.T) {
	s := Series{Start: monday, Step: 5 * time.Minute}
	for i := range 15 * 288 {
		s.Values = append(s.Values, float64(i))
	}
	data := NewData(s)
	data.Calendar.Holidays = map[Date]bool{{2026, 1, 20}: true}
	n := len(s.Values)
	m := data.moment(n, 3) // Tuesday 20 January, 0:10
	base := math.Log1p(float64(n) - 3.5)
	for name, want := range map[string]float64{
		"hour": 2.0 / 12, "weekday": 1, "weekend": 0, "business-hours": 0, "month": 1, "day-of-month": 20, "holiday": 1, "minute": 10,
		"level":            base,
		"lag-0":            math.Log(float64(n)) - base,
		"lag-11":           math.Log(float64(n-11)) - base,
		"mean-3":           math.Log(float64(n-1)) - base,
		"mean-24h":         math.Log1p(float64(n)-144.5) - base,
		"slope":            math.Log(float64(n-1)) - math.Log(float64(n-4)),
		"yesterday":        math.Log(float64(n+3-288)) - base,
		"last-week":        math.Log(float64(n+3-7*288)) - base,
		"change-yesterday": math.Log(float64(n+3-288)) - math.Log1p(float64(n-288)-3.5),
		"median-7d":        math.Log(float64(n+3-4*288)) - base,
		"highest-7d":       math.Log(float64(n+3-288)) - base,
		"phase":            0,
		"event":            0,
	} {
		i := slices.IndexFunc(features[:], func(f Feature) bool { return f.Name == name })
		if got := features[i].value(&m); math.Abs(got-want) > 1e-3 {
			t.Errorf("%s is %g, not %g", name, got, want)
		}
	}
}

// TestEventsAreLearnt has an event that doubles traffic every day, declared to add 10 %.
func TestEventsAreLearnt(t *testing.T) {
	s := Series{Start: monday, Step: 5 * time.Minute}
	data := NewData(s)
	for day := range 6 {
		data.Events = append(data.Events, Event{"sale", monday.AddDate(0, 0, 1+2*day).Add(12 * time.Hour), time.Hour, 1.1})
	}
	for i := range 9 * 288 {
		value := 100.0
		if data.expected(data.Time(i)) > 0 {
			value = 200
		}
		data.Append(value)
	}
	during := monday.AddDate(0, 0, 11).Add(12 * time.Hour)
	if got := data.expected(during); math.Abs(got-math.Log(1.1)) > 1e-9 {
		t.Errorf("declared is %g", got)
	}
	// Four occurrences have ended, and what is declared counts as a fifth.
	want := (4*math.Log(201.0/101) + math.Log(1.1)) / 5
	if got := data.learnt(during, len(data.Values)); math.Abs(got-want) > 1e-9 {
		t.Errorf("learnt is %g, not %g", got, want)
	}
	if got := data.learnt(during, 288); math.Abs(got-math.Log(1.1)) > 1e-9 {
		t.Errorf("learnt before any occurrence is %g", got)
	}
}
