package scale

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Type is a kind of instance that can be had.
type Type struct {
	Name     string
	Capacity float64 // requests per second within the objective, above 0
	Price    float64 // for an hour, 0 or more
	Most     int     // there are at most so many; 0 is no limit
}

// Outcome is a demand that may come, and how probable it is.
type Outcome struct {
	Load        float64 // requests per second
	Probability float64
}

// Outcomes returns a distribution, of requests in a step of that length, as so many outcomes of equal probability: the lower ends
// of the highest, so that a capacity of as much leaves no more than its share above it.
func (d Distribution) Outcomes(count int, step time.Duration) []Outcome {
	outcomes := make([]Outcome, count)
	for i := range outcomes {
		outcomes[i] = Outcome{d.Quantile(float64(i+1)/float64(count)) / step.Seconds(), 1 / float64(count)}
	}
	return outcomes
}

// Mix is how many instances of each type to have.
type Mix struct {
	Count    []int   // by type
	Capacity float64 // requests per second
	Price    float64 // for an hour
	Risk     float64 // probability that the demand is more than the capacity
	Cost     float64 // for an hour: the price, and the risk times what an hour of violation costs
}

// mostNodes bounds the search; real problems take some hundreds.
const mostNodes = 5_000_000

// Optimise returns the mix of least cost for an hour: the instances' price, and what an hour in violation costs times the
// probability of more demand than they can take; with a risk of at most that. Of equal mixes it takes the one with the greater
// capacity, and then with more of the earlier types. It fails when no mix is enough.
//
// The probability of violation steps down only where the capacity reaches an outcome. So the best mix is, for one of these, the cheapest
// that reaches it: a covering problem in whole numbers, which is solved by branch and bound over the types in the order of their price per
// capacity (Gilmore and Gomory, "The Theory and Computation of Knapsack Functions", Operations Research 14, 1966; the bound is the
// relaxation to parts of instances).
func Optimise(types []Type, outcomes []Outcome, violation, risk float64) (Mix, error) {
	if err := checkTypes(types); err != nil {
		return Mix{}, err
	}
	order := make([]int, len(types))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(types[a].Price/types[a].Capacity, types[b].Price/types[b].Capacity)
	})
	sorted := slices.SortedFunc(slices.Values(outcomes), func(a, b Outcome) int { return cmp.Compare(a.Load, b.Load) })
	best, found := Mix{Cost: math.Inf(1)}, false
	above := 1.0
	for i := -1; i < len(sorted); i++ {
		need := 0.0
		if i >= 0 {
			need = sorted[i].Load
			above -= sorted[i].Probability
			if i+1 < len(sorted) && sorted[i+1].Load == need {
				continue
			}
		}
		if above > risk+1e-9 || max(above, 0)*violation >= best.Cost && found {
			continue
		}
		s := search{types: types, order: order, need: need, count: make([]int, len(types)), best: math.Inf(1)}
		s.branch(0, 0, 0)
		if s.nodes > mostNodes {
			return Mix{}, fmt.Errorf("the best mix of %d types for %g requests per second was not found within %d steps: offer fewer types", len(types), need, mostNodes)
		}
		if s.found == nil {
			continue
		}
		m := measure(types, s.found, sorted, violation)
		if !found || m.better(&best) {
			best, found = m, true
		}
	}
	if !found {
		return Mix{}, fmt.Errorf("no mix of instances takes %g requests per second: allow more of them, or a greater risk", sorted[len(sorted)-1].Load)
	}
	return best, nil
}

func checkTypes(types []Type) error {
	if len(types) == 0 {
		return fmt.Errorf("there is no type of instance to choose from")
	}
	for _, t := range types {
		if !(t.Capacity > 0) || !(t.Price >= 0) || t.Most < 0 {
			return fmt.Errorf("instances of type %q have a capacity of %g, a price of %g, and there are at most %d: give above 0, and 0 or more", t.Name, t.Capacity, t.Price, t.Most)
		}
	}
	return nil
}

// measure returns what a mix takes and costs.
func measure(types []Type, count []int, outcomes []Outcome, violation float64) Mix {
	m := Mix{Count: count}
	for i, n := range count {
		m.Capacity += float64(n) * types[i].Capacity
		m.Price += float64(n) * types[i].Price
	}
	for _, o := range outcomes {
		if o.Load > m.Capacity {
			m.Risk += o.Probability
		}
	}
	m.Cost = m.Price + m.Risk*violation
	return m
}

// better compares costs, and for equal ones as Optimise says.
func (m *Mix) better(o *Mix) bool {
	if tolerance := 1e-12 * (1 + math.Abs(o.Cost)); math.Abs(m.Cost-o.Cost) > tolerance {
		return m.Cost < o.Cost
	}
	return m.Capacity > o.Capacity
}

// search finds the cheapest mix that reaches a capacity.
type search struct {
	types []Type
	order []int // the cheapest per capacity first
	need  float64
	count []int
	best  float64
	found []int
	nodes int
}

// branch tries all numbers of a type and those after it, beside what was chosen of those before.
func (s *search) branch(depth int, capacity, price float64) {
	if s.nodes++; s.nodes > mostNodes {
		return
	}
	if capacity >= s.need {
		if price < s.best {
			s.best, s.found = price, slices.Clone(s.count)
		}
		return
	}
	if depth == len(s.order) {
		return
	}
	t := &s.types[s.order[depth]]
	missing := s.need - capacity
	if price+missing*t.Price/t.Capacity >= s.best { // the types after it cost no less per capacity
		return
	}
	most := int(math.Ceil(missing/t.Capacity - 1e-12))
	if float64(most)*t.Capacity < missing {
		most++
	}
	if t.Most > 0 {
		most = min(most, t.Most)
	}
	for n := most; n >= 0; n-- {
		s.count[s.order[depth]] = n
		s.branch(depth+1, capacity+float64(n)*t.Capacity, price+float64(n)*t.Price)
	}
	s.count[s.order[depth]] = 0
}
