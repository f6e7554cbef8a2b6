package scale

import "time"

// Sizer says how many instances a load needs, and remembers what it reckoned. It is not safe for concurrent use.
type Sizer struct {
	queue      Queue
	objective  float64 // seconds
	capacities []float64
}

// NewSizer returns one for an objective, a mean response time that a request alone can keep.
func NewSizer(q Queue, objective time.Duration) *Sizer {
	return &Sizer{queue: q, objective: objective.Seconds()}
}

// capacity returns how many requests per second c instances answer within the objective.
func (s *Sizer) capacity(c int) float64 {
	for len(s.capacities) <= c {
		s.capacities = append(s.capacities, -1)
	}
	if s.capacities[c] < 0 {
		s.capacities[c] = s.queue.Capacity(c, s.objective)
	}
	return s.capacities[c]
}

// Need returns how many instances a load of so many requests per second needs, 1 at least.
func (s *Sizer) Need(load float64) int {
	c := max(int(load/s.queue.Rate), 1)
	for s.capacity(c) < load {
		c++
	}
	return c
}
