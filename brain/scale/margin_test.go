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
