package trees

import (
	"cmp"
	"slices"
)

// Loss is what boosting makes small: the squared error (0), or the pinball loss of the quantile that it is,
// between 0 and 1 (Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978).
type Loss float64

const (
	Squared  Loss = 0   // predicts the mean
	Absolute Loss = 0.5 // predicts the median
)

// Quantile returns the loss whose least makes a prediction that the target stays below with probability q.
func Quantile(q float64) Loss { return Loss(q) }

// of returns the loss of one residual, target less prediction.
func (l Loss) of(residual float64) float64 {
	switch {
	case l == Squared:
		return residual * residual / 2
	case residual >= 0:
		return float64(l) * residual
	default:
		return (float64(l) - 1) * residual
	}
}

// gradient returns by how much the loss falls when the prediction grows.
func (l Loss) gradient(residual float64) float64 {
	switch {
	case l == Squared:
		return residual
	case residual >= 0:
		return float64(l)
	default:
		return float64(l) - 1
	}
}

// centre returns the number that has the least loss from these. It puts them in order.
func (l Loss) centre(values []weighted) float64 {
	if l == Squared {
		return mean(values)
	}
	slices.SortFunc(values, byValue)
	return quantile(values, float64(l))
}

type weighted struct{ value, weight float32 }

func byValue(x, y weighted) int { return cmp.Compare(x.value, y.value) }

func mean(values []weighted) float64 {
	var total, weight float64
	for _, v := range values {
		total += float64(v.value) * float64(v.weight)
		weight += float64(v.weight)
	}
	return total / weight
}

// quantile returns the one of values in order. Each value stands in the middle of its weight, and between
// them it is interpolated: definition 5 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The
// American Statistician 50, 1996, which for a half is the usual median.
func quantile(values []weighted, q float64) float64 {
	var total float64
	for _, v := range values {
		total += float64(v.weight)
	}
	target := q * total
	var passed, before float64 // weight before the value; the middle of the last one
	last := float64(values[0].value)
	for _, v := range values {
		value, middle := float64(v.value), passed+float64(v.weight)/2
		if middle >= target {
			return last + (value-last)*(target-before)/(middle-before)
		}
		passed, before, last = passed+float64(v.weight), middle, value
	}
	return last
}
