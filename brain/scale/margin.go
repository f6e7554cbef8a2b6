package scale

import (
	"fmt"
	"math"
)

// Place is where an instance runs, and what it takes.
type Place struct {
	Name, Rack, Zone string  // a rack or zone of "" is one of its own
	Capacity         float64 // requests per second within the objective
}

// Event is what may happen to instances.
type Event string

// The events.
const (
	LoseOne     Event = "instance" // one of them, the expected one
	LoseLargest Event = "largest"  // the one with the greatest capacity
	LoseRack    Event = "rack"     // the rack with the greatest capacity
	LoseZone    Event = "zone"     // the zone with the greatest capacity
	Slow        Event = "slow"     // a dependency makes every request take longer by a factor
)

// Scenario is an event that shall be thought of.
type Scenario struct {
	Event       Event
	Factor      float64 // of Slow: how many times as long requests take, above 1
	Probability float64 // in a month, 0 to 1
	Survive     bool    // the objective shall be kept in it
}

// Margin is what scenarios mean for instances where they are.
type Margin struct {
	Expected float64 // capacity that is lost on average of the scenarios, by their probability; requests per second
	Worst    float64 // that the worst of them loses
	// Factor is what the capacity must be of what a load needs, so that the scenarios that shall be survived are. It is +Inf
	// when one of them takes everything.
	Factor float64
	// Resilience is how probable it is that the objective is kept in a scenario, when one happens, by their probability; 1 without any.
	Resilience float64
	Reason     string
}

// String returns for example "slow by 2.0".
func (s Scenario) String() string {
	if s.Event == Slow {
		return fmt.Sprintf("slow by %.1f", s.Factor)
	}
	return "loss of the " + map[Event]string{LoseOne: "average instance", LoseLargest: "largest instance", LoseRack: "largest rack", LoseZone: "largest zone"}[s.Event]
}

// MarginOf reckons with what would happen to instances that serve a load, in requests per second. Those that are added are
// thought to be spread as those that are there.
func MarginOf(places []Place, load float64, scenarios []Scenario) (Margin, error) {
	m := Margin{Factor: 1, Resilience: 1, Reason: "there is no scenario"}
	total, largest := 0.0, 0.0
	racks, zones := map[string]float64{}, map[string]float64{}
	for i, p := range places {
		total += p.Capacity
		largest = max(largest, p.Capacity)
		racks[groupOf(p.Zone+"/"+p.Rack, p.Rack, i)] += p.Capacity
		zones[groupOf(p.Zone, p.Zone, i)] += p.Capacity
	}
	var probable, survived, worstLeft float64
	worst := ""
	for _, s := range scenarios {
		lost := map[Event]float64{
			LoseOne: total / float64(max(len(places), 1)), LoseLargest: largest, LoseRack: greatest(racks), LoseZone: greatest(zones),
			Slow: total * (1 - 1/s.Factor),
		}
		loss, known := lost[s.Event]
		switch {
		case !known:
			return Margin{}, fmt.Errorf("the scenario %q is not known (known: instance, largest, rack, zone, slow)", s.Event)
		case s.Event == Slow && !(s.Factor > 1):
			return Margin{}, fmt.Errorf("the scenario slow has the factor %g: give one above 1", s.Factor)
		case !(s.Probability >= 0 && s.Probability <= 1):
			return Margin{}, fmt.Errorf("the scenario %s has the probability %g: give 0 to 1", s.Event, s.Probability)
		}
		m.Expected += s.Probability * loss
		m.Worst = max(m.Worst, loss)
		probable += s.Probability
		left := total - loss
		if left >= load {
			survived += s.Probability
		} else if worst == "" || left < worstLeft {
			worst, worstLeft = s.String(), left
		}
		if s.Survive && total > 0 {
			m.Factor = max(m.Factor, 1/(1-loss/total)) // +Inf when all is lost
		}
	}
	if probable > 0 {
		m.Expected /= probable
		m.Resilience = survived / probable
	}
	switch {
	case worst != "":
		m.Reason = fmt.Sprintf("%s leaves capacity for %.0f of %.0f requests per second", worst, max(worstLeft, 0), load)
	case len(scenarios) > 0:
		m.Reason = fmt.Sprintf("the worst, a loss of %.0f, leaves capacity for %.0f of %.0f requests per second", m.Worst, total-m.Worst, load)
	}
	return m, nil
}

// groupOf names the rack or zone of an instance; one that is not told is its own.
func groupOf(name, told string, instance int) string {
	if told == "" {
		return fmt.Sprintf("\x00%d", instance)
	}
	return name
}

func greatest(groups map[string]float64) float64 {
	most := 0.0
	for _, v := range groups {
		most = math.Max(most, v)
	}
	return most
}

// spread returns so many instances, placed as those that are there: the first of them, or more of the same places in turn.
func spread(places []Place, count int) []Place {
	if len(places) == 0 {
		places = []Place{{Capacity: 1}}
	}
	all := make([]Place, count)
	for i := range all {
		all[i] = places[i%len(places)]
	}
	return all
}

// Survive returns how many instances it takes, so that in each scenario that shall be survived as much capacity is left as so many
// have that are needed without. Those that are added are thought to be placed as those that are there. It returns false,
// and the number as it was, when no number is enough.
func Survive(places []Place, need int, scenarios []Scenario) (count int, enough bool, err error) {
	for count = need; count <= 4*need+8; {
		m, err := MarginOf(spread(places, count), 0, scenarios)
		if err != nil {
			return need, false, err
		}
		missing := float64(need)*m.Factor - float64(count)
		if missing <= 1e-9 {
			return count, true, nil
		}
		if math.IsInf(missing, 1) {
			missing = 0
		}
		count += max(1, int(missing/2))
	}
	return need, false, nil
}
