package scale

import "math"

// Queue is how a service's instances answer: a load of requests that arrive at random and are served by equal instances,
// one at a time each, in the order that they came (M/M/c, and G/G/c by a correction).
type Queue struct {
	// Rate is what one instance serves, requests per second, above 0.
	Rate float64
	// Burstiness is the squared coefficient of variation of the time between arrivals, and Variation the same of the time that
	// a request takes; 1 each is M/M/c.
	Burstiness, Variation float64
	// Workers is how many requests an instance serves at a time, each so many times as long. Then requests are sent to an instance by hash, as a
	// layer-4 balancer does, and wait for that one: c queues M/M/Workers. 0 is one queue for all instances, of one worker each.
	Workers int
}

// NewQueue returns the M/M/c queue of instances that serve so many requests per second each.
func NewQueue(rate float64) Queue { return Queue{Rate: rate, Burstiness: 1, Variation: 1} }

// one returns the queue of one of c instances by itself: its workers, and its part of the load.
func (q Queue) one(c int, load float64) (one Queue, workers int, part float64) {
	workers = q.Workers
	q.Rate, q.Workers = q.Rate/float64(workers), 0
	return q, workers, load / float64(c)
}

// alone is the mean time in seconds that a request takes which does not wait.
func (q Queue) alone() float64 { return float64(max(q.Workers, 1)) / q.Rate }

// erlangB returns the probability that all of c servers are busy when what finds none goes away, for an offered load of a
// servers. Its inverse has a recursion in which nothing cancels (Jagerman, "Some Properties of the Erlang Loss
// Function", Bell System Technical Journal 53, 1974, equation 18: 1/B(c) = 1 + c/a / B(c-1)).
func erlangB(c int, a float64) float64 {
	if a <= 0 {
		return flag(c == 0)
	}
	inverse := 1.0
	for n := 1; n <= c; n++ {
		inverse = 1 + float64(n)/a*inverse
	}
	return 1 / inverse // 0 when the inverse is infinite
}

// ErlangC returns the probability that a request has to wait, at c instances for a load of a of them (requests per second /
// those that one instance serves); 1 when the load is as much as the instances or more.
func ErlangC(c int, a float64) float64 {
	switch {
	case a <= 0:
		return 0
	case a >= float64(c):
		return 1
	}
	b := erlangB(c, a)
	return b / (1 - a/float64(c)*(1-b)) // Erlang's second formula by his first, as in Kleinrock, "Queueing Systems" 1, 1975, section 3.5
}

// Response returns the mean time in seconds from a request's arrival to its answer, at c instances and so many
// requests per second; +Inf when they are more than the instances can serve. Other arrivals than random ones scale the time
// of waiting (Allen, "Probability, Statistics, and Queueing Theory", 1990, section 5.3.5: the Allen-Cunneen approximation).
func (q Queue) Response(c int, load float64) float64 {
	if q.Workers > 0 {
		q, c, load = q.one(c, load)
	}
	spare := float64(c)*q.Rate - load
	if spare <= 0 {
		return math.Inf(1)
	}
	return 1/q.Rate + ErlangC(c, load/q.Rate)/spare*(q.Burstiness+q.Variation)/2
}

// Longer returns the share of the requests whose response time is longer than t seconds, of M/M/c, whatever the arrivals are:
// (1 + C (1 - exp(-(c-1-a) rate t)) / (c-1-a)) exp(-rate t) (Gross et al., "Fundamentals of Queueing Theory", 2008, section 2.3).
func (q Queue) Longer(c int, load, t float64) float64 {
	if q.Workers > 0 {
		q, c, load = q.one(c, load)
	}
	a := load / q.Rate
	if a >= float64(c) {
		return 1
	}
	spare, x := float64(c)-1-a, q.Rate*t
	within := x // the limit of the fraction for a spare of 0
	if math.Abs(spare) > 1e-9 {
		within = -math.Expm1(-spare*x) / spare
	}
	return (1 + ErlangC(c, a)*within) * math.Exp(-x)
}

// Percentile returns the time in seconds within which a share p (0 to below 1) of the requests are answered, the inverse of
// Longer. With other arrivals what is longer than without waiting is scaled as in Response.
func (q Queue) Percentile(c int, load, p float64) float64 {
	if q.Workers > 0 {
		q, c, load = q.one(c, load)
	}
	if load >= float64(c)*q.Rate {
		return math.Inf(1)
	}
	low, high := 0.0, 1/q.Rate
	for q.Longer(c, load, high) > 1-p {
		low, high = high, 2*high
	}
	for range 60 {
		if middle := (low + high) / 2; q.Longer(c, load, middle) > 1-p {
			low = middle
		} else {
			high = middle
		}
	}
	alone := -math.Log1p(-p) / q.Rate // what a share of p of the requests takes without waiting
	return alone + (high-alone)*(q.Burstiness+q.Variation)/2
}

// Instances returns how many instances it takes, at least, so that the mean response time is at most an objective in seconds;
// 0 without load, and -1 when no number does since a request alone takes longer.
func (q Queue) Instances(load, objective float64) int {
	switch {
	case load <= 0:
		return 0
	case objective < q.alone():
		return -1
	}
	least := int(load/q.Rate) + 1
	most := least
	for step := 1; q.Response(most, load) > objective; step *= 2 {
		least, most = most+1, most+step
	}
	for least < most {
		if middle := (least + most) / 2; q.Response(middle, load) > objective {
			least = middle + 1
		} else {
			most = middle
		}
	}
	return most
}

// Capacity returns how many requests per second c instances answer within an objective, in seconds, on average.
func (q Queue) Capacity(c int, objective float64) float64 {
	if c == 0 || q.Response(c, 0) > objective {
		return 0
	}
	if q.Workers > 0 {
		one, workers, _ := q.one(1, 0)
		return float64(c) * one.Capacity(workers, objective)
	}
	// A probability of waiting of 1, the most there is, would leave this.
	high := float64(c) * q.Rate
	low := max(high-(q.Burstiness+q.Variation)/2/(objective-1/q.Rate), 0)
	for range 60 {
		if middle := (low + high) / 2; q.Response(c, middle) <= objective {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func flag(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
