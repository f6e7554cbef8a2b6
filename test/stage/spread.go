package stage

import (
	"fmt"
	"slices"
)

// Spread is of a figure that each round of a benchmark has.
type Spread struct {
	Median  float64 `json:"median"`
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
}

// SpreadOf sorts the values, of which there is one at least. An even number has two medians, whose mean it is.
func SpreadOf(values []float64) Spread {
	slices.Sort(values)
	n := len(values)
	return Spread{Median: (values[(n-1)/2] + values[n/2]) / 2, Lowest: values[0], Highest: values[n-1]}
}

// String returns for example "61.5 (58.0 to 70.2)".
func (s Spread) String() string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", s.Median, s.Lowest, s.Highest)
}
