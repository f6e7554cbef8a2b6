package forecast

import (
	"context"
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// linear is ridge regression on the features (Hoerl and Kennard, Technometrics 1970): standardised ones, of which those
// that are not known are average and those far out are 5 deviations from it.
type linear struct {
	Scales  []scale
	Weights []float64 // of the standardised features
	Mean    float64
	Low     float64 // 10 % and 90 % of the residuals
	High    float64
}

type scale struct{ Mean, Deviation float64 }

const (
	// penalty is what a squared weight costs, in squared residuals of standardised features.
	penalty = 10
	// farOut is the most that a feature counts, in deviations: a line goes on where there was never data.
	farOut = 5
)

func (s scale) of(value float32) float64 {
	if s.Deviation == 0 || value != value {
		return 0
	}
	return max(-farOut, min((float64(value)-s.Mean)/s.Deviation, farOut))
}

// scaleOf returns the mean and deviation of a feature where it is known.
func scaleOf(s samples, feature int) scale {
	var values []float64
	for i := range s.count() {
		if v := float64(s.row(i)[feature]); v == v {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return scale{}
	}
	mean, deviation := stat.PopMeanStdDev(values, nil)
	if deviation < 1e-6*(1+math.Abs(mean)) {
		deviation = 0 // constant, but for rounding
	}
	return scale{mean, deviation}
}

// learn solves the normal equations.
func (l *linear) learn(ctx context.Context, s samples) error {
	l.Scales = make([]scale, FeatureCount)
	for f := range l.Scales {
		l.Scales[f] = scaleOf(s, f)
	}
	l.Mean = 0
	for _, y := range s.y {
		l.Mean += float64(y) / float64(s.count())
	}
	products := mat.NewSymDense(FeatureCount, nil)
	right := mat.NewVecDense(FeatureCount, nil)
	z := mat.NewVecDense(FeatureCount, nil)
	for i, y := range s.y {
		if i%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		for f, scale := range l.Scales {
			z.SetVec(f, scale.of(s.row(i)[f]))
		}
		products.SymRankOne(products, 1, z)
		right.AddScaledVec(right, float64(y)-l.Mean, z)
	}
	for f := range FeatureCount {
		products.SetSym(f, f, products.At(f, f)+penalty)
	}
	var factor mat.Cholesky
	if !factor.Factorize(products) {
		return errors.New("the features are no base of a regression")
	}
	var weights mat.VecDense
	if err := factor.SolveVecTo(&weights, right); err != nil {
		return err
	}
	l.Weights = weights.RawVector().Data
	l.spread(s)
	return nil
}

// spread measures the residuals. There are hundreds of rows for each weight, so those of the rows learnt from will do.
func (l *linear) spread(s samples) {
	residuals := make([]float64, s.count())
	for i, y := range s.y {
		residuals[i] = float64(y) - l.point(s.row(i))
	}
	slices.Sort(residuals)
	l.Low = min(quantile(residuals, 0.1), 0)
	l.High = max(quantile(residuals, 0.9), 0)
}

func (l *linear) point(row []float32) float64 {
	sum := l.Mean
	for f, scale := range l.Scales {
		sum += l.Weights[f] * scale.of(row[f])
	}
	return sum
}

func (l *linear) say(row []float32) [3]float64 {
	p := l.point(row)
	return [3]float64{p + l.Low, p, p + l.High}
}
