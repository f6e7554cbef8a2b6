package p2c

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// exampleRound has 100 requests, the first of which took so long at the slow backend.
func exampleRound(slow int, long time.Duration, remembered int) round {
	r := round{requests: make([]request, 100), remembered: remembered}
	for i := range r.requests {
		r.requests[i] = request{took: 5 * time.Millisecond, backend: "b2"}
		if i < slow {
			r.requests[i] = request{took: long, backend: slowName, late: lateAfter}
		}
	}
	return r
}

func exampleReport() Report {
	o := Options{Mode: dataplane.ModeL2, Probe: control.ProbeNone, Backends: 10, Slow: 4, Rate: 500, Duration: 20 * time.Second, Rounds: 3}
	failing := exampleRound(10, 100*time.Millisecond, 100)
	failing.requests[50] = request{took: time.Millisecond, late: lateAfter + 1, err: errors.New("reset")}
	failing.requests[51] = request{took: time.Millisecond, err: errors.New("reset")}
	p2c := exampleRound(2, 20*time.Millisecond, 17)
	p2c.left = 1
	return o.summarize(map[dataplane.Policy][]round{
		dataplane.PolicyMaglev: {exampleRound(10, 100*time.Millisecond, 100), exampleRound(10, 80*time.Millisecond, 100), failing},
		dataplane.PolicyP2C:    {p2c, exampleRound(4, 40*time.Millisecond, 21), exampleRound(1, 40*time.Millisecond, 19)},
	})
}

// Ratios are of rounds with the same number, and a request that failed is the slowest of all.
func TestReportAsJSON(t *testing.T) {
	text, err := json.Marshal(exampleReport())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"mode":"l2","probe":"none","backends":10,"slow":4,"rate":500,"slow_busy":0.8,"seconds":20,"rounds":3,"policies":{` +
		`"maglev":{"requests":300,"failed":2,"late":1,"p50_ms":{"median":5,"lowest":5,"highest":5},"p99_ms":{"median":100,"lowest":80,"highest":10000},` +
		`"slow_share":{"median":0.1,"lowest":0.1,"highest":0.1},"remembered":{"median":1,"lowest":1,"highest":1},"left":0},` +
		`"p2c":{"requests":300,"failed":0,"late":0,"p50_ms":{"median":5,"lowest":5,"highest":5},"p99_ms":{"median":20,"lowest":5,"highest":40},` +
		`"slow_share":{"median":0.02,"lowest":0.01,"highest":0.04},"remembered":{"median":0.19,"lowest":0.17,"highest":0.21},"left":1}},` +
		`"p99_ratio":{"median":0.2,"lowest":0.001,"highest":0.5}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	var read Report
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleReport(), read); diff != "" {
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
10 backends, one of which takes 4 times longer; 500 requests/s, of which an equal share keeps it 80 % busy; mode l2, probe none
rounds of 20 s, 3 of each policy: medians, lowest to highest

POLICY   REQUESTS  FAILED  LATE  P50 MS                P99 MS                  TO THE SLOW ONE %      REMEMBERED %
maglev        300       2     1  5.0 (5.0 to 5.0)      100.0 (80.0 to 10000.0) 10.0 (10.0 to 10.0)    100.0 (100.0 to 100.0)
p2c           300       0     0  5.0 (5.0 to 5.0)      20.0 (5.0 to 40.0)      2.0 (1.0 to 4.0)       19.0 (17.0 to 21.0)

p99 of p2c / p99 of maglev: 0.20 (0.00 to 0.50)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestBroken(t *testing.T) {
	r := exampleReport()
	if broken := r.Broken(); !strings.HasPrefix(broken, "2 of 300 requests had no answer with policy maglev") {
		t.Errorf("%q", broken)
	}
	r.Policies[dataplane.PolicyMaglev] = Result{Requests: 300}
	if broken := r.Broken(); broken != "" {
		t.Errorf("%q", broken)
	}
}

func TestRoundAsText(t *testing.T) {
	want := "p50 5.0 ms, p99 100.0 ms; 10.0 % of 100 requests to the slow one, 40.0 % remembered"
	if got := exampleRound(10, 100*time.Millisecond, 40).String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
