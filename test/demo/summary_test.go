package demo

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/test/traffic"
)

// began is when the traffic of these tests began; the events are 5, 10 and 15 s later, the end 20 s.
var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return began.Add(d) }

var threeEvents = []event{
	{kind: Kill, backend: "b1", at: at(5 * time.Second)},
	{kind: LinkDown, backend: "b2", at: at(10 * time.Second)},
	{kind: Drain, backend: "b3", at: at(15 * time.Second)},
}

// well is what the load sees when nothing fails: a request every 10 ms, answered in 1 ms by the backends
// that are left in turn.
func well() []sample {
	classes := []string{"HTTP IPv4", "HTTP IPv6", "UDP IPv4", "UDP IPv6"}
	var samples []sample
	for i := range 2000 {
		start := time.Duration(i) * 10 * time.Millisecond
		gone := min(int(start/(5*time.Second)), 3)
		backend := backendName(gone + i%(backendCount-gone))
		samples = append(samples, request(classes[i/4%4], start, time.Millisecond, backend, nil))
	}
	return samples
}

func request(class string, start, took time.Duration, backend string, err error) sample {
	return sample{class, traffic.Result{Start: at(start), End: at(start + took), Backend: backend, Err: err}}
}

var errTimeout = errors.New("i/o timeout")

func TestSummaryWhenAllIsWell(t *testing.T) {
	samples := append(well(),
		request("HTTP IPv4", 4999*time.Millisecond, 100*time.Millisecond, "", errTimeout), // under way at the kill
		request("HTTP IPv4", 5400*time.Millisecond, time.Second, "", errTimeout),
		request("UDP IPv6", 11400*time.Millisecond, time.Second, "", errTimeout),
	)
	got := summarize(began, samples, threeEvents, at(20*time.Second))
	got.addFlows([]flowEnd{
		{backend: "b1", at: at(5100 * time.Millisecond), err: errTimeout},
		{backend: "b2", at: at(15 * time.Second), err: errTimeout},
		{backend: "b3", at: at(20 * time.Second)},
		{backend: "b4", at: at(20 * time.Second)},
	}, threeEvents)
	want := Summary{
		Requests: 2003,
		Failed:   3,
		Events: []EventSummary{
			{Event: Kill, Backend: "b1", AtS: 5, GapMS: 10, Failed: 2, LastFailedMS: 400},
			{Event: LinkDown, Backend: "b2", AtS: 10, GapMS: 10, Failed: 1, LastFailedMS: 1400},
			{Event: Drain, Backend: "b3", AtS: 15, GapMS: 10},
		},
		Distribution: map[string]float64{"b1": 0.25, "b2": 0.25, "b3": 0.25, "b4": 0.25},
		Classes:      map[string]int{"HTTP IPv4": 500, "HTTP IPv6": 500, "UDP IPv4": 500, "UDP IPv6": 500},
		Flows:        4,
		Broken:       []string{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryCheckCanBreak(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]sample) []sample
		want   string
	}{
		{"nothing of one class", func(s []sample) []sample {
			return without(s, func(x sample) bool { return x.class == "UDP IPv6" })
		}, "no UDP IPv6 request was answered"},
		{"failure before the first event", func(s []sample) []sample {
			return append(s, request("UDP IPv4", time.Second, time.Millisecond, "", errTimeout))
		}, "a UDP IPv4 request failed while every backend was well: i/o timeout"},
		{"unequal shares", func(s []sample) []sample {
			return without(s, func(x sample) bool { return x.Backend == "b2" && x.Start.Nanosecond()%3 != 0 })
		}, "b2 had a share of "},
		{"gap", func(s []sample) []sample {
			return without(s, func(x sample) bool {
				return x.Start.After(at(6*time.Second)) && x.Start.Before(at(7*time.Second))
			})
		}, "no request was answered for 1s after the kill of b1"},
		{"silence to the end", func(s []sample) []sample {
			return without(s, func(x sample) bool { return x.Start.After(at(18 * time.Second)) })
		}, "no request was answered for 1.999s after the drain of b3"},
		{"late failure", func(s []sample) []sample {
			return append(s, request("HTTP IPv6", 11600*time.Millisecond, time.Second, "", errTimeout))
		}, "a HTTP IPv6 request failed that was sent 1.6s after the link_down of b2: i/o timeout"},
		{"failure around the drain", func(s []sample) []sample {
			return append(s, request("HTTP IPv6", 15100*time.Millisecond, time.Millisecond, "", errTimeout))
		}, "a HTTP IPv6 request failed that was sent 100ms after the drain of b3: i/o timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := summarize(began, c.change(well()), threeEvents, at(20*time.Second))
			if !strings.Contains(strings.Join(s.Broken, "\n"), c.want) {
				t.Errorf("%q does not contain %q", s.Broken, c.want)
			}
		})
	}
}

func without(samples []sample, drop func(sample) bool) []sample {
	var rest []sample
	for _, x := range samples {
		if !drop(x) {
			rest = append(rest, x)
		}
	}
	return rest
}

func TestFlowsThatLoseALivingBackendMoved(t *testing.T) {
	for name, end := range map[string]flowEnd{
		"of the last backend":    {backend: "b4", at: at(12 * time.Second), err: traffic.ErrMoved},
		"of the drained backend": {backend: "b3", at: at(19 * time.Second), err: errTimeout},
		"before the kill":        {backend: "b1", at: at(4 * time.Second), err: errTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			var s Summary
			s.addFlows([]flowEnd{end}, threeEvents)
			if s.MovedConnections != 1 || len(s.Broken) != 1 {
				t.Errorf("%d moved, %q", s.MovedConnections, s.Broken)
			}
		})
	}
}

// The keys are promised to scripts.
func TestSummaryAsJSON(t *testing.T) {
	text, err := json.Marshal(summarize(began, well(), threeEvents[:1], at(20*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		`{"requests":2000,"failed":0,"moved_connections":0,"events":[{"event":"kill",`, `"gap_ms":10,"failed":0,`,
		`"distribution":{"b1":0.25,`, `"broken":[]`,
	} {
		if !strings.Contains(string(text), key) {
			t.Errorf("%s is not in %s", key, text)
		}
	}
}

func TestPictureFitsTerminal(t *testing.T) {
	s := snapshot{
		Summary:   summarize(began, well(), threeEvents, at(20*time.Second)),
		elapsed:   20 * time.Second,
		perSecond: 200,
		backends: []backendShare{
			{name: "b1", state: "link down"}, {name: "b4", state: "up", answered: 200, share: 1, flows: 12},
		},
	}
	for line := range strings.Lines(picture(s)) {
		if width := len([]rune(strings.TrimSuffix(line, "\n"))); width > 79 {
			t.Errorf("%d columns: %s", width, line)
		}
	}
	var b strings.Builder
	show := repaint()
	show(&b, s)
	first := b.Len()
	show(&b, s)
	if up := "\x1b[" + "11A"; !strings.HasPrefix(b.String()[first:], up) {
		t.Errorf("the second picture begins with %q", b.String()[first:first+8])
	}
}
