package day

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/test/traffic"
)

// Seconds count by the mean of what began in them, and requests that fail by how long they took.
func TestViolations(t *testing.T) {
	begin := time.Unix(1000, 0)
	var all []traffic.Result
	for _, r := range []struct {
		at, took time.Duration
		err      error
	}{
		{0, 100 * time.Millisecond, nil}, {500 * time.Millisecond, 190 * time.Millisecond, nil}, // 145 ms
		{1000 * time.Millisecond, 100 * time.Millisecond, nil}, {1999 * time.Millisecond, 300 * time.Millisecond, nil}, // 200 ms
		{3 * time.Second, 3 * time.Second, errors.New("no answer")},
	} {
		all = append(all, traffic.Result{Start: begin.Add(r.at), End: begin.Add(r.at + r.took), Err: r.err})
	}
	var got Summary
	got.addRequests(all)
	if diff := cmp.Diff(Summary{Violations: 2, Seconds: 3, Failed: 1, MeanMS: 738}, got); diff != "" {
		t.Error(diff)
	}
}

// The lead counts from when there were enough for the last time before the peak, and is below 0 when there were too few at it.
func TestLead(t *testing.T) {
	peak := time.Unix(1000, 0)
	at := func(s, ready int) moment {
		return moment{at: peak.Add(time.Duration(s) * time.Second), ready: ready, there: ready}
	}
	for name, test := range map[string]struct {
		fleet []moment
		want  float64
	}{
		"early":    {[]moment{at(-30, 2), at(-20, 6), at(5, 6), at(20, 2)}, 20},
		"again":    {[]moment{at(-30, 6), at(-20, 5), at(-10, 7), at(5, 6), at(20, 2)}, 10},
		"late":     {[]moment{at(-30, 2), at(-20, 5), at(5, 6), at(20, 2)}, -5},
		"never":    {[]moment{at(-30, 2), at(20, 2)}, -20},
		"at night": {nil, 0},
	} {
		var s Summary
		if s.addFleet(test.fleet, peak, 6); s.LeadS != test.want {
			t.Errorf("%s: the lead is %g s, want %g", name, s.LeadS, test.want)
		}
	}
}

// The peak is when it is said to be.
func TestRate(t *testing.T) {
	if rate(peaksAt) != busy || rate(peaksAt-12*time.Hour) != quiet {
		t.Errorf("%g at the peak, %g at night", rate(peaksAt), rate(peaksAt-12*time.Hour))
	}
}
