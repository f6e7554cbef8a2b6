package scale

import (
	"testing"
	"time"
)

// TestReactive works examples by hand, one call every 15 s: instances serve 100 requests per second, and the target is 0.5.
func TestReactive(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, steps := range map[string][]struct {
		after        time.Duration
		load         float64
		ready, total int
		want         int
	}{
		"ceil(4 x 0.6 / 0.5)":                     {{0, 240, 4, 4, 5}},
		"within a tenth of the target":            {{0, 219, 4, 4, 4}, {15, 181, 4, 4, 4}},
		"just beyond it":                          {{0, 221, 4, 4, 5}},
		"at most four more":                       {{0, 2000, 2, 2, 6}},
		"at most twice as many":                   {{0, 2000, 10, 10, 20}},
		"never none":                              {{0, 0, 3, 3, 1}},
		"down only after 300 s, the last desired": {{0, 400, 8, 8, 8}, {15, 50, 8, 8, 8}, {300, 50, 8, 8, 8}, {301, 50, 8, 8, 1}},
		"the highest of the window counts":        {{0, 100, 8, 8, 2}, {100, 300, 8, 8, 6}, {200, 100, 8, 8, 6}, {401, 100, 8, 8, 2}},
		"those that boot do not dilute the load":  {{0, 400, 4, 8, 8}, {15, 400, 4, 8, 8}},
	} {
		r := Reactive{Target: 0.5}
		for i, s := range steps {
			if got := r.Desired(start.Add(s.after*time.Second), s.load, 100, s.ready, s.total); got != s.want {
				t.Errorf("%s: step %d: %d instances, not %d", name, i+1, got, s.want)
			}
		}
	}
}

// TestFleet: what is ordered serves after the boot time, and what boots ends first.
func TestFleet(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := NewFleet(2, time.Minute)
	check := func(ready, total int) {
		t.Helper()
		if f.Ready != ready || f.Total() != total {
			t.Errorf("%d of %d are ready, not %d of %d", f.Ready, f.Total(), ready, total)
		}
	}
	if f.Scale(now, 2) || !f.Scale(now, 4) {
		t.Error("what changed is told wrongly")
	}
	check(2, 4)
	f.Advance(now.Add(59 * time.Second))
	check(2, 4)
	f.Scale(now.Add(30*time.Second), 5)
	f.Advance(now.Add(time.Minute))
	check(4, 5)
	f.Scale(now, 4)
	f.Advance(now.Add(time.Hour))
	check(4, 4)
	f.Scale(now, 5)
	f.Scale(now, 1)
	check(1, 1)
	f.Scale(now, -3)
	check(0, 0)
}
