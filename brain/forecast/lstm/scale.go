package lstm

import "math"

// scale brings numbers to mean 0 and deviation 1.
type scale struct{ Mean, Deviation float32 }

// farthest is how many deviations a feature may be from its mean; the network takes what is farther for this
// far, so that one absurd number does not fill its memory.
const farthest = 10

// scales returns those of each column of a table. Missing and infinite numbers do not count.
func scales(table []float32, columns int) []scale {
	found := make([]scale, columns)
	for column := range found {
		var count, mean, squares float64 // Welford's algorithm
		for i := column; i < len(table); i += columns {
			if value := float64(table[i]); finite(value) {
				count++
				distance := value - mean
				mean += distance / count
				squares += distance * (value - mean)
			}
		}
		found[column] = scale{float32(mean), float32(math.Sqrt(squares / count))}
		if !(found[column].Deviation > 1e-6*float32(math.Abs(mean))) {
			found[column].Deviation = 1 // constant, or never there
		}
	}
	return found
}

// reduce returns a feature as the network reads it.
func (s scale) reduce(value float32) float32 {
	if value != value {
		return 0
	}
	return max(-farthest, min(farthest, (value-s.Mean)/s.Deviation))
}

// standard returns a target as the network estimates it, and a NaN for one that is not to be learnt from.
func (s scale) standard(value float32) float32 {
	if !finite(float64(value)) {
		return nan
	}
	return (value - s.Mean) / s.Deviation
}

var nan = float32(math.NaN())

func (s scale) restore(value float32) float32 { return value*s.Deviation + s.Mean }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
