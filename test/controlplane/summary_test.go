package controlplane

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/test/stage"
)

func exampleRounds() []round {
	weight := func(ms ...time.Duration) map[Kind]*latencies {
		l := new(latencies)
		for _, n := range ms {
			l.live, l.answer = append(l.live, n*time.Millisecond), append(l.answer, 2*n*time.Millisecond)
		}
		return map[Kind]*latencies{Weight: l}
	}
	return []round{
		{apply: 300 * time.Millisecond, switched: 20, changes: weight(1, 2), memory: [2]memory{{resident: 10}, {own: 7.25}}},
		{apply: 100 * time.Millisecond, switched: 20, changes: weight(3, 4), memory: [2]memory{{resident: 30}, {}}, idle: [2]float64{0.5, 0}},
		{apply: 200 * time.Millisecond, switched: 19, changes: weight(5, 6), memory: [2]memory{{resident: 20}, {}}, rebuilt: 2},
	}
}

func span(median, lowest, highest float64) Range {
	return Range{Median: median, Lowest: lowest, Highest: highest}
}

func TestSummaryOfRounds(t *testing.T) {
	got := summarize(exampleRounds())
	want := Result{
		ApplyMS: span(200, 100, 300), Switched: 19, Rebuilt: 2,
		Changes: map[Kind]Change{Weight: {Count: 6, LiveMS: stage.Quantiles{P50: 3, P99: 6, Max: 6}, AnswerMS: stage.Quantiles{P50: 6, P99: 12, Max: 12}}},
		First:   Usage{ResidentMiB: span(20, 10, 30), ProcessorPct: span(0, 0, 50)},
		Second:  Usage{OwnMiB: span(0, 0, 7.3)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBroken(t *testing.T) {
	for want, result := range map[string]Result{
		"": {Switched: 20},
		"19 of 20 services had a table when the daemon had answered (probes none)": {Switched: 19},
		"2 services had another table after a restart (probes none)":               {Switched: 20, Rebuilt: 2},
	} {
		r := Report{Services: 20, Probes: map[Probes]Result{NoProbes: result, DefaultProbes: {Switched: 20, Rebuilt: 3}}}
		if got := r.Broken(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The keys are promised to scripts.
func TestReportAsJSON(t *testing.T) {
	text, err := json.Marshal(Report{Services: 20, Backends: 10, Rounds: 3, Probes: map[Probes]Result{NoProbes: {
		Changes: map[Kind]Change{Add: {Count: 5}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	none := `{"median":0,"lowest":0,"highest":0}`
	quantiles := `{"p50":0,"p99":0,"max":0}`
	usage := `{"resident_mib":` + none + `,"maps_mib":` + none + `,"own_mib":` + none + `,"peak_mib":` + none + `,"processor_pct":` + none + `}`
	want := `{"services":20,"backends":10,"rounds":3,"probes":{"none":{"apply_ms":` + none + `,"switched":0,` +
		`"changes":{"add":{"count":5,"live_ms":` + quantiles + `,"answer_ms":` + quantiles + `}},` +
		`"adopt_ms":` + none + `,"rebuilt":0,"first":` + usage + `,"second":` + usage + `}}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func TestReportAsText(t *testing.T) {
	r := Report{Services: 20, Backends: 10, Rounds: 3, Probes: map[Probes]Result{DefaultProbes: summarize(exampleRounds())}}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"20 services x 10 backends, 3 rounds\n",
		"PROBES default                    MEDIAN    LOWEST   HIGHEST\n",
		"applied, ms                        200.0     100.0     300.0\n",
		"ONE CHANGE, MS                       P50       P99       MAX\n",
		"weight, answered                     6.0      12.0      12.0\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing:\n%s", want, &text)
		}
	}
}

// What is read of a process is that of this one.
func TestMemoryOfProcess(t *testing.T) {
	held := make([]byte, 64<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	m, err := memoryOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m.own < 64 || m.resident < m.own || m.peak < 64 || m.maps != 0 {
		t.Errorf("with 64 MiB in use it is %+v", m)
	}
	begin, spent := time.Now(), time.Duration(0)
	for spent < 50*time.Millisecond && time.Since(begin) < time.Minute {
		if spent, err = processorTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if spent == 0 {
		t.Error("it has used no processor")
	}
	_ = held[0]
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Services: 1000, Backends: 100, Changes: 1, Rounds: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"0 services":              func(o *Options) { o.Services = 0 },
		"0 backends":              func(o *Options) { o.Backends = 0 },
		"1000 services with 1100": func(o *Options) { o.Backends = 1100 },
		"0 changes":               func(o *Options) { o.Changes = 0 },
		"-1 rounds":               func(o *Options) { o.Rounds = -1 },
		"70000 services are not":  func(o *Options) { o.Services = 70000 },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
