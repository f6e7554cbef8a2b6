package scale

// sizer says how many instances a load needs, and remembers what it reckoned. It is not safe for concurrent use.
type sizer struct {
	queue      Queue
	objective  float64 // seconds
	capacities []float64
}

// capacity returns how many requests per second c instances answer within the objective.
func (s *sizer) capacity(c int) float64 {
	for len(s.capacities) <= c {
		s.capacities = append(s.capacities, -1)
	}
	if s.capacities[c] < 0 {
		s.capacities[c] = s.queue.Capacity(c, s.objective)
	}
	return s.capacities[c]
}

// need returns how many instances a load needs, 1 at least. The objective must be one that can be reached.
func (s *sizer) need(load float64) int {
	c := max(int(load/s.queue.Rate), 1)
	for s.capacity(c) < load {
		c++
	}
	return c
}
