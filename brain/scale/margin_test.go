package scale

import (
	"math"
	"strings"
	"testing"
)

// TestMargin has two zones of unequal size, worked by hand.
func TestMargin(t *testing.T) {
	places := []Place{
		{"a1", "r1", "a", 100}, {"a2", "r1", "a", 100}, {"a3", "r2", "a", 200}, // zone a: 400, racks 200 and 200
		{"b1", "r1", "b", 150}, {"b2", "", "b", 50}, // zone b: 200; its r1 is not a's
	}
	for _, v := range []struct {
		scenario               Scenario
		loss, factor, survives float64 // factor when it shall be survived
	}{
		{Scenario{Event: LoseOne}, 120, 600.0 / 480, 1},
		{Scenario{Event: LoseLargest}, 200, 1.5, 1},
		{Scenario{Event: LoseRack}, 200, 1.5, 1},
		{Scenario{Event: LoseZone}, 400, 3, 0},
		{Scenario{Event: Slow, Factor: 1.5}, 200, 1.5, 1},
	} {
		for _, survive := range []bool{false, true} {
			s := v.scenario
			s.Probability, s.Survive = 0.1, survive
			m, err := MarginOf(places, 400, []Scenario{s})
			want := 1.0
			if survive {
				want = v.factor
			}
			if err != nil || math.Abs(m.Worst-v.loss) > 1e-9 || math.Abs(m.Expected-v.loss) > 1e-9 || math.Abs(m.Factor-want) > 1e-9 || m.Resilience != v.survives {
				t.Errorf("%s, to be survived: %v: %+v (%v); a loss of %g, a factor of %g and a resilience of %g are right", s, survive, m, err, v.loss, want, v.survives)
			}
		}
	}
	m, err := MarginOf(places, 400, []Scenario{{Event: LoseZone, Probability: 0.1}, {Event: LoseOne, Probability: 0.3}})
	if err != nil || math.Abs(m.Expected-(0.1*400+0.3*120)/0.4) > 1e-9 || math.Abs(m.Resilience-0.75) > 1e-9 || !strings.Contains(m.Reason, "largest zone leaves capacity for 200 of 400") {
		t.Errorf("two scenarios: %+v (%v)", m, err)
	}
	// Everything is in one zone.
	if m, err := MarginOf(places[:3], 10, []Scenario{{Event: LoseZone, Probability: 0.1, Survive: true}}); err != nil || !math.IsInf(m.Factor, 1) {
		t.Errorf("a zone that has everything: %+v (%v)", m, err)
	}
	if m, err := MarginOf(nil, 10, []Scenario{{Event: LoseZone, Probability: 0.1, Survive: true}}); err != nil || m.Resilience != 0 {
		t.Errorf("no instances: %+v (%v)", m, err)
	}
	for want, s := range map[string]Scenario{`"flood"`: {Event: "flood"}, "factor 1": {Event: Slow, Factor: 1}, "probability 2": {Event: LoseOne, Probability: 2}} {
		if _, err := MarginOf(places, 1, []Scenario{s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestSurvive asks how many it takes: one more for one, half as many again for a zone of three, and never enough where all are in one.
func TestSurvive(t *testing.T) {
	zones := func(names ...string) (places []Place) {
		for _, zone := range names {
			places = append(places, Place{Zone: zone, Capacity: 10})
		}
		return places
	}
	one, zone, slow := Scenario{Event: LoseLargest, Survive: true}, Scenario{Event: LoseZone, Survive: true}, Scenario{Event: Slow, Factor: 1.5, Survive: true}
	for _, c := range []struct {
		places    []Place
		need      int
		scenarios []Scenario
		want      int
		enough    bool
	}{
		{zones("a"), 1, []Scenario{one}, 2, true},
		{nil, 5, []Scenario{one}, 6, true},
		{zones("a", "b"), 4, []Scenario{one}, 5, true},
		{zones("a", "b", "c"), 6, []Scenario{zone}, 9, true},
		{zones("a", "b", "c"), 7, []Scenario{zone}, 11, true},
		{zones("a", "a", "a"), 6, []Scenario{zone}, 6, false},
		{zones("", "", ""), 6, []Scenario{zone}, 7, true},
		{zones("a", "b"), 10, []Scenario{slow}, 15, true},
		{zones("a", "b"), 10, []Scenario{{Event: LoseZone}}, 10, true},
		{zones("a", "b"), 1000, []Scenario{zone, slow}, 2000, true},
	} {
		n, enough, err := Survive(c.places, c.need, c.scenarios)
		if err != nil || enough != c.enough || n != c.want {
			t.Errorf("%d of %v in %v: %d, %v (%v); not %d, %v", c.need, c.places, c.scenarios, n, enough, err, c.want, c.enough)
		}
	}
	if _, _, err := Survive(nil, 1, []Scenario{{Event: "flood"}}); err == nil {
		t.Error("a flood is survived")
	}
}
