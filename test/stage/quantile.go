package stage

import (
	"math"
	"slices"
	"time"
)

// Quantiles of a distribution of times in milliseconds, by nearest rank.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// QuantilesOf sums up times, which it sorts. Without any they are 0.
func QuantilesOf(values []time.Duration) Quantiles {
	slices.Sort(values)
	at := func(part float64) float64 { return Milliseconds(NearestRank(values, part)) }
	return Quantiles{P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// NearestRank returns the smallest value that at least that part (0..1) of the sorted ones does not exceed, 0 of none.
func NearestRank(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(part * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// Milliseconds rounds to 0.1 ms.
func Milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e4) / 10 }
