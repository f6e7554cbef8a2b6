package replay

import (
	"cmp"
	"math"
	"slices"
)

// Saved returns which part of the first curve's instance hours the second one saves at as many minutes of violation, on average over the
// first one's points, and how many of them could be compared: those between two points of the second one, which is
// interpolated over the logarithm of the minutes.
func Saved(of, by []Point) (saved float64, compared int) {
	by = slices.SortedFunc(slices.Values(by), func(a, b Point) int { return cmp.Compare(a.ViolationMinutes, b.ViolationMinutes) })
	for _, p := range of {
		for i := 1; i < len(by); i++ {
			a, b := by[i-1], by[i]
			if p.ViolationMinutes < a.ViolationMinutes || p.ViolationMinutes > b.ViolationMinutes {
				continue
			}
			from, to := math.Log1p(a.ViolationMinutes), math.Log1p(b.ViolationMinutes)
			part := 0.0
			if to > from {
				part = (math.Log1p(p.ViolationMinutes) - from) / (to - from)
			}
			saved += 1 - (a.InstanceHours+part*(b.InstanceHours-a.InstanceHours))/p.InstanceHours
			compared++
			break
		}
	}
	return saved / float64(max(compared, 1)), compared
}
