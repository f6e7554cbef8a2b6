package stage

import (
	"math"
	"time"
)

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
