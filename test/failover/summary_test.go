package failover

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/control"
)

func ms(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

func quantilesOf(p50, p99, highest float64) Quantiles {
	return Quantiles{P50: p50, P99: p99, Max: highest}
}

// What was not detected counts as late, not as fast.
func TestSummaryOfTrials(t *testing.T) {
	got := summarize([]trial{
		{detected: true, detect: ms(120), gap: ms(110), failed: 14},
		{failed: 700, gap: ms(5200), disturbed: 2},
		{detected: true, detect: ms(80)},
	})
	want := Result{
		Trials:   3,
		DetectMS: quantilesOf(120, 5000, 5000), GapMS: quantilesOf(110, 5200, 5200),
		Failed: 714, Disturbed: 2, Undetected: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func exampleReport() Report {
	one := Result{Trials: 20, DetectMS: quantilesOf(1, 2.5, 5000), GapMS: quantilesOf(4, 5, 6), Failed: 7, Undetected: 1}
	return Report{
		Profiles: map[string]map[Fault]Result{"default": {Kill: one, Slow: one}, "fast": {Kill: one}},
		HAProxy:  map[Fault]Result{Silent: {Trials: 20, Disturbed: 3}},
	}
}

// The keys are promised to scripts.
func TestReportAsJSON(t *testing.T) {
	r := exampleReport()
	r.FalseEjections = &Ejections{Minutes: 10}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	one := `{"trials":20,"detect_ms":{"p50":1,"p99":2.5,"max":5000},"gap_ms":{"p50":4,"p99":5,"max":6},"failed":7,"disturbed":0,"undetected":1}`
	want := `{"profiles":{"default":{"kill":` + one + `,"slow":` + one + `},"fast":{"kill":` + one + `}},` +
		`"haproxy":{"silent":{"trials":20,"detect_ms":{"p50":0,"p99":0,"max":0},"gap_ms":{"p50":0,"p99":0,"max":0},"failed":0,"disturbed":3}},` +
		`"false_ejections":{"minutes":10,"count":0}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func TestReportAsText(t *testing.T) {
	var b strings.Builder
	r := exampleReport()
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `
                            DETECTED AFTER MS        LAST FAILURE AFTER MS
PROFILE  FAULT      TRIALS      P50     P99     MAX      P50     P99     MAX  FAILED DISTURBED
default  kill           20        1       2   >5000        4       5       6       7         0
default  slow           20        1       2   >5000        4       5       6       7         0
fast     kill           20        1       2   >5000        4       5       6       7         0
haproxy  silent         20        0       0       0        0       0       0       0         3
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// Only Sluice must not disturb, and must not change a state without a fault.
func TestBroken(t *testing.T) {
	r := exampleReport()
	if broken := r.Broken(); broken != "" {
		t.Error(broken)
	}
	r.Profiles["fast"][Loss] = Result{Disturbed: 1}
	if broken := r.Broken(); !strings.Contains(broken, "1 long-lived connections") || !strings.Contains(broken, "loss, profile fast") {
		t.Errorf("%q", broken)
	}
	if broken := (&Report{FalseEjections: &Ejections{Count: 2}}).Broken(); !strings.HasPrefix(broken, "2 changes of state") {
		t.Errorf("%q", broken)
	}
}

// Connections that were under way when the fault began count, those that are begun after its end do not.
func TestFailuresOfAFault(t *testing.T) {
	began := time.Now()
	at := func(start, end float64, err error) attempt {
		return attempt{began.Add(ms(start)), began.Add(ms(end)), err}
	}
	l := load{attempts: []attempt{
		at(-20, -10, errSettling), at(-1, 999, errSettling), at(1, 2, nil), at(50, 1050, errSettling), at(100, 1100, errSettling),
	}}
	var starts []time.Duration
	for _, a := range l.failures(began, began.Add(ms(100))) {
		starts = append(starts, a.start.Sub(began))
	}
	if diff := cmp.Diff([]time.Duration{ms(-1), ms(50)}, starts); diff != "" {
		t.Error(diff)
	}
}

// A state that changed and changed back between two looks shows.
func TestChangesOfState(t *testing.T) {
	began := time.Now()
	status := func(state control.State, since time.Time) control.Status {
		return control.Status{Services: []control.ServiceStatus{{Backends: []control.BackendStatus{
			{Name: "b1", State: state, Since: since}, {Name: "b2", State: control.StateUp, Since: began},
		}}}}
	}
	states := make(map[string]state)
	for i, step := range []struct {
		status control.Status
		want   int
	}{
		{status(control.StateUp, began), 0},
		{status(control.StateUp, began), 0},
		{status(control.StateDown, began.Add(time.Second)), 1},
		{status(control.StateDown, began.Add(3*time.Second)), 1},
	} {
		if got := changes(states, step.status); got != step.want {
			t.Errorf("look %d: %d changes, want %d", i, got, step.want)
		}
	}
}
