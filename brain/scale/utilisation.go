package scale

import "math"

// RateLearner learns how many requests per second an instance serves from what instances say of their utilisation, by the
// utilisation law: utilisation = load / rate (Denning and Buzen, "The Operational Analysis of Queueing Network Models", Computing Surveys
// 10, 1978). Its zero value knows nothing.
type RateLearner struct {
	Load float64 `json:"load"` // sums, of which older ones count less
	Use  float64 `json:"use"`
	Seen float64 `json:"seen"` // observations
}

const (
	// leastUse is what instances must be used for: below, what they do beside requests would count.
	leastUse = 0.1
	// enoughSeen observations tell a rate, and after halfSeen more they count half.
	enoughSeen, halfSeen = 40, 2880
)

// Observe takes the requests per second of one instance and its utilisation, 0 to 1, of the same time.
func (l *RateLearner) Observe(load, use float64) {
	if !(load > 0) || !(use >= leastUse) || math.IsInf(load+use, 0) {
		return
	}
	forget := math.Exp2(-1.0 / halfSeen)
	l.Load, l.Use, l.Seen = forget*l.Load+load, forget*l.Use+min(use, 1), forget*l.Seen+1
}

// Rate returns requests per second that an instance serves, false as long as too little is known.
func (l *RateLearner) Rate() (float64, bool) {
	if l.Seen < enoughSeen {
		return 0, false
	}
	return l.Load / l.Use, true
}

// Burstiness measures how arrivals come, as the squared coefficient of variation that Queue has: the variance of their number in
// short times over its mean (the index of dispersion; Cox and Lewis, "The Statistical Analysis of Series of Events", 1966, section 4.5).
// Pairs of times that follow each other tell it, so that slow changes of the rate do not count. Its zero value knows nothing.
type Burstiness struct {
	Squares float64 `json:"squares"` // sums, of which older ones count less
	Count   float64 `json:"count"`
	Seen    float64 `json:"seen"` // pairs
}

// mostBursty bounds what is believed.
const mostBursty = 50

// Observe takes how many arrivals there were in two equal times, one after the other.
func (b *Burstiness) Observe(first, second float64) {
	forget := math.Exp2(-1.0 / halfSeen)
	b.Squares, b.Count, b.Seen = forget*b.Squares+(first-second)*(first-second), forget*b.Count+first+second, forget*b.Seen+1
}

// Squared returns the squared coefficient of variation, 1 as of arrivals at random while too little is known.
func (b *Burstiness) Squared() float64 {
	if b.Seen < enoughSeen || b.Count < enoughSeen {
		return 1
	}
	return min(b.Squares/b.Count, mostBursty)
}
