package live

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
)

var start = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) // a Monday

// bench has forecasts of a history in a store of its own. Nothing runs in the background but what the test calls.
type bench struct {
	*Forecasts
	t         *testing.T
	db        *bolt.DB
	options   Options
	anomalies []string
	random    *rand.Rand
}

func newBench(t *testing.T, learn int) *bench {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := &bench{t: t, db: db, random: rand.New(rand.NewPCG(1, 2))}
	b.options = Options{
		Learn: learn, Share: 1, Models: []string{forecast.Formula, forecast.Ridge}, Logger: slog.New(slog.DiscardHandler),
		Anomaly: func(service string, a forecast.Anomaly) {
			b.anomalies = append(b.anomalies, service+" "+string(a.Kind)+" "+a.Time.Format("15:04"))
		},
	}
	b.restart()
	return b
}

// restart opens the forecasts anew, as a daemon does.
func (b *bench) restart() {
	h, err := history.Open(b.db, history.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	if b.Forecasts, err = New(b.db, h, b.options); err != nil {
		b.t.Fatal(err)
	}
}

// wave is the traffic of a day's pattern in a minute, with noise of 3 %.
func (b *bench) wave(minute int, level float64) float64 {
	return math.Round(level * (1 + 0.5*math.Sin(2*math.Pi*float64(minute)/1440)) * (1 + 0.03*b.random.NormFloat64()))
}

// past writes the history of days before start.
func (b *bench) past(days int, levels map[string]float64) {
	var minutes []history.Minute
	for i := -days * 1440; i < 0; i++ {
		minutes = append(minutes, b.minute(i, levels))
	}
	if err := b.history.Record(minutes, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) minute(i int, levels map[string]float64) history.Minute {
	m := history.Minute{At: start.Add(time.Duration(i)*time.Minute + 30*time.Second), Rows: map[string]history.Row{}}
	for name, level := range levels {
		row := history.Absent()
		row[history.NewFlows], row[history.Backends] = float32(b.wave(i, level)), 3
		m.Rows[name] = row
	}
	return m
}

// now has a minute pass, as the daemon's sampler does.
func (b *bench) now(i int, levels map[string]float64) {
	m := b.minute(i, levels)
	if err := b.history.Record([]history.Minute{m}, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
	b.Minute(m.At, m.Rows)
}

// until has the time from one minute to another pass: all of it is in the history, but the forecasts are told of every half hour and
// the last one only.
func (b *bench) until(from, to int, levels map[string]float64) {
	var minutes []history.Minute
	for i := from; i < to; i++ {
		minutes = append(minutes, b.minute(i, levels))
	}
	if err := b.history.Record(minutes, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
	for i, m := range minutes {
		if i%30 == 0 || to-from-i <= 30 {
			b.Minute(m.At, m.Rows)
		}
	}
}

// learn does what Run does, until there is nothing left to do.
func (b *bench) learn() {
	if b.mustChoose() {
		b.choose(b.t.Context())
	}
	for b.learnNext(b.t.Context()) {
	}
}

func (b *bench) show(name string) Report {
	r, err := b.Show(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(r.Forecast) != Horizon {
		b.t.Fatalf("the forecast of %s has %d steps", name, len(r.Forecast))
	}
	for i, s := range r.Forecast {
		if !s.Time.Equal(r.End.Add(time.Duration(i)*time.Minute)) || !(0 <= s.P10 && s.P10 <= s.P50 && s.P50 <= s.P90) {
			b.t.Errorf("step %d of %s, after %s: %+v", i+1, name, r.End, s)
		}
	}
	return r
}

// near says that the median of the last step is what the wave will be, within 10 %.
func (b *bench) near(r Report, minute int, level float64) {
	b.t.Helper()
	want := level * (1 + 0.5*math.Sin(2*math.Pi*float64(minute)/1440))
	if got := r.Forecast[Horizon-1].P50; math.Abs(got-want) > 0.1*want {
		b.t.Errorf("the forecast of %s for minute %d is %.0f; it will be about %.0f", r.Service, minute, got, want)
	}
}

// The busiest services learn, others are forecast by simple models; new ones from their first minute on.
func TestBusiestLearn(t *testing.T) {
	b := newBench(t, 2)
	levels := map[string]float64{"big": 1000, "middle": 600, "small": 200}
	b.past(4, levels)
	levels["new"] = 50
	b.now(0, levels)
	b.learn()
	for name, learns := range map[string]bool{"big": true, "middle": true, "small": false, "new": false} {
		r := b.show(name)
		if r.Learns != learns || learns != (r.Reason == "") || learns == r.Fitted.IsZero() {
			t.Errorf("%s: learns %v, for the reason %q, fitted %s", name, r.Learns, r.Reason, r.Fitted)
		}
		if name != "new" {
			b.near(r, Horizon, levels[name])
		}
	}
	if r := b.show("new"); !strings.Contains(r.Reason, "two days") || r.Forecast[0].P50 == 0 || r.Forecast[0].Confidence > 0.5 {
		t.Errorf("after one minute: %+v", r)
	}
	if r := b.show("big"); r.Forecast[Horizon-1].Confidence < 0.8 {
		t.Errorf("a wave with 3 %% noise is forecast with a confidence of %.2f", r.Forecast[Horizon-1].Confidence)
	}
	if r := b.show("nobody"); r.Forecast[0].P50 != 0 || r.Forecast[0].Confidence != 0 || len(r.Recent) != 0 && r.Recent[0].Flows != nil {
		t.Errorf("a service without history: %+v", r)
	}
}

// A surge is an anomaly within two minutes, whether the service learns or not, is not learnt from, and may be confirmed.
func TestAnomaly(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000, "small": 200}
	b.past(4, levels)
	for i := range 30 {
		b.now(i, levels)
		if i == 0 {
			b.learn()
		}
	}
	if len(b.anomalies) > 0 {
		t.Fatalf("usual traffic has anomalies: %v", b.anomalies)
	}
	b.now(30, map[string]float64{"big": 3000, "small": 600})
	b.now(31, map[string]float64{"big": 3000, "small": 600})
	for _, name := range []string{"big", "small"} {
		if !slices.ContainsFunc(b.anomalies, func(a string) bool { return strings.HasPrefix(a, name) }) {
			t.Errorf("no anomaly of %s within two minutes: %v", name, b.anomalies)
		}
		if r := b.show(name); len(r.Anomalies) == 0 {
			t.Errorf("%s does not show its anomaly", name)
		}
	}
	if n := b.Confirm("big", start.Add(30*time.Minute), start.Add(32*time.Minute)); n == 0 {
		t.Error("nothing was confirmed")
	}
	if n := b.Confirm("big", start, start.Add(time.Hour)); n != 0 {
		t.Errorf("%d minutes were confirmed twice", n)
	}
	if r := b.show("big"); len(r.Anomalies) != 0 {
		t.Errorf("after confirmation: %+v", r.Anomalies)
	}
}

// After a restart a service goes on from what it had learnt, with the minutes that came meanwhile, and forecasts what it
// would have without the restart.
func TestRestart(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000}
	b.past(4, levels)
	b.now(0, levels)
	b.learn()
	for i := 1; i <= 40; i++ {
		b.now(i, levels)
	}
	before := b.show("big")
	b.restart()
	b.now(41, levels)
	b.learn()
	after := b.show("big")
	if !after.Learns || !after.Fitted.Equal(before.Fitted) {
		t.Fatalf("after the restart: learns %v, for the reason %q, fitted %s, before %s", after.Learns, after.Reason, after.Fitted, before.Fitted)
	}
	b.near(after, 41+Horizon, 1000)
	if len(after.Models) != len(before.Models) || after.Forecast[0].Confidence < 0.8 {
		t.Errorf("after the restart: %+v", after)
	}
}

// A state that is damaged is learnt anew.
func TestDamagedState(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000}
	b.past(4, levels)
	b.now(0, levels)
	b.learn()
	s, _, err := b.states.load("big")
	if err != nil {
		t.Fatal(err)
	}
	s.Forecaster = s.Forecaster[:len(s.Forecaster)/2]
	if err := b.states.save("big", s); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.now(1, levels)
	b.learn()
	if r := b.show("big"); !r.Learns {
		t.Errorf("with a damaged state it does not learn, for the reason %q", r.Reason)
	}
}

// Minutes that are missing, and a clock that jumps far and back, leave forecasts that are sound.
func TestTime(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000}
	b.past(4, levels)
	b.now(0, levels)
	b.learn()
	b.now(20, levels)
	b.near(b.show("big"), 20+Horizon, 1000)
	b.now(20, levels) // once more
	b.now(5*365*1440, levels)
	b.now(21, levels)
	b.learn()
	b.now(22, levels)
	r := b.show("big")
	if !r.End.Equal(start.Add(23 * time.Minute)) {
		t.Errorf("the clock was set back, and the forecast is of the time after %s", r.End)
	}
	b.near(r, 22+Horizon, 1000)
}

// Each day the models are fitted anew, and what is too old is dropped.
func TestRefit(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000}
	b.past(28, levels)
	b.now(0, levels)
	b.learn()
	first := b.show("big").Fitted
	b.until(1, 1441, levels)
	b.learn()
	r := b.show("big")
	if want := first.Add(forecast.Day); !r.Fitted.Equal(want) {
		t.Errorf("fitted at %s, again at %s: not after a day", first, r.Fitted)
	}
	if n := len(b.services["big"].data.Values); n != 28*1440 {
		t.Errorf("%d minutes are kept", n)
	}
	b.near(r, 1440+Horizon, 1000)
	b.now(1441, levels)
	b.near(b.show("big"), 1441+Horizon, 1000)
}

// A service that becomes less busy makes place for another one, and its memory is free.
func TestTakesPlace(t *testing.T) {
	b := newBench(t, 1)
	b.past(4, map[string]float64{"a": 1000, "b": 900})
	b.now(0, map[string]float64{"a": 1000, "b": 900})
	b.learn()
	now := map[string]float64{"a": 300, "b": 900}
	b.until(1, 1440, now)
	b.learn()
	if !b.show("b").Learns || b.show("a").Learns {
		t.Errorf("a: %q, b: %q", b.show("a").Reason, b.show("b").Reason)
	}
	if n := len(b.services["a"].data.Values); n > 100 {
		t.Errorf("%d minutes of a service that does not learn are kept", n)
	}
}

// What was planned multiplies the forecast.
func TestEvents(t *testing.T) {
	b := newBench(t, 0)
	b.options.Events = func(service string, from, to time.Time) []forecast.Event {
		return []forecast.Event{{Name: "sale", Start: start.Add(10 * time.Minute), Length: time.Hour, Expect: 2}}
	}
	b.restart()
	levels := map[string]float64{"big": 1000}
	b.past(4, levels)
	b.now(0, levels)
	r := b.show("big")
	if before, during := r.Forecast[5].P50, r.Forecast[Horizon-1].P50; during < 1.3*before {
		t.Errorf("the forecast is %.0f before an event that doubles traffic, and %.0f during it", before, during)
	}
}

// Run learns by itself, and ends when it shall, also while it learns.
func TestRun(t *testing.T) {
	b := newBench(t, 1)
	levels := map[string]float64{"big": 1000}
	b.past(4, levels)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { b.Run(ctx); close(ended) }()
	b.now(0, levels)
	for !b.show("big").Learns {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-ended
}
