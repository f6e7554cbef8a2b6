package forecast

import (
	"math"
	"slices"
	"time"
)

// Missing says which zeros are data that is missing. Rows that are absent always are.
type Missing string

const (
	// MissingAuto takes a run of zeros of five minutes or more for missing data when the traffic is never near zero otherwise.
	MissingAuto Missing = "auto"
	// MissingZeros takes every such run for missing data.
	MissingZeros Missing = "zeros"
	// MissingNone takes every zero for traffic.
	MissingNone Missing = "none"
)

// AllMissing lists the values of Missing.
func AllMissing() []Missing { return []Missing{MissingAuto, MissingZeros, MissingNone} }

const (
	outage     = 5 * time.Minute // zeros for as long are an outage rather than chance
	nearZero   = 0.02            // of the median of five minutes' traffic
	nearlyNone = 0.005           // share of the five minutes that may be near zero in traffic that never is, as around outages
	commonZero = 0.2             // share of the time from which on zeros are a habit, such as nights
)

// known tells for each row whether its value is data. NaN never is.
func (m Missing) known(values []float64, rowStep time.Duration) []bool {
	known := make([]bool, len(values))
	for i, v := range values {
		known[i] = !math.IsNaN(v)
	}
	if m == MissingNone {
		return known
	}
	length := max(int((outage+rowStep-1)/rowStep), 1)
	runs := zeroRuns(values, length)
	if m == MissingAuto && !neverNearZero(values, runs, length) {
		return known
	}
	for _, run := range runs {
		for i := run[0]; i < run[1]; i++ {
			known[i] = false
		}
	}
	return known
}

// zeroRuns returns the beginning and end of each run of at least so many zeros.
func zeroRuns(values []float64, length int) [][2]int {
	var runs [][2]int
	for i := 0; i < len(values); i++ {
		begin := i
		for i < len(values) && values[i] == 0 {
			i++
		}
		if i-begin >= length {
			runs = append(runs, [2]int{begin, i})
		}
	}
	return runs
}

// neverNearZero looks at the sums of so many rows between the runs, without those that touch one.
func neverNearZero(values []float64, runs [][2]int, length int) bool {
	var sums []float64
	from, zeros := 0, 0
	for _, run := range append(runs[:len(runs):len(runs)], [2]int{len(values), len(values)}) {
		for i := from + length; i+length <= run[0]-length; i += length {
			sum := 0.0
			for _, v := range values[i : i+length] {
				sum += v
			}
			if !math.IsNaN(sum) {
				sums = append(sums, sum)
			}
		}
		from = run[1]
		zeros += run[1] - run[0]
	}
	if len(sums) == 0 || float64(zeros) > commonZero*float64(len(values)) {
		return false
	}
	slices.Sort(sums)
	low, _ := slices.BinarySearch(sums, nearZero*sums[len(sums)/2])
	return sums[len(sums)/2] > 0 && float64(low) <= nearlyNone*float64(len(sums))
}
