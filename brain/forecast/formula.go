package forecast

import (
	"context"
	"errors"
	"math"

	"gonum.org/v1/gonum/mat"
)

// formula is λ(t+Δt) = α·λ(t) + β·seasonal + γ·trend + δ·events: the recent mean; what traffic was at the target's time
// of the day and of the week before; the line through the last two hours, gone on; and what the events at the target
// are expected to add.
type formula struct {
	Steps   []int        // steps ahead that are learnt, rising
	Factors [][4]float64 // α, β, γ and δ of each
}

// formulaPrior are the factors before they are fitted.
var formulaPrior = [4]float64{0.7, 0.2, 0.1, 0.3}

// formulaWeight is how many rows the prior counts as much as, whose terms are all 1.
const formulaWeight = 50

func newFormula(steps []int) *formula {
	f := &formula{Steps: steps}
	for range steps {
		f.Factors = append(f.Factors, formulaPrior)
	}
	return f
}

// terms returns what the factors are of.
func (m *moment) terms() [4]float64 {
	now := fromLog(m.base)
	seasonal, trend := now, now
	if s := mean(each(2, m.sameTime)); !math.IsNaN(s) {
		seasonal = s
	}
	hour, before := m.mean(m.n-m.hour, m.n), m.mean(m.n-2*m.hour, m.n-m.hour)
	if slope := (hour - before) / float64(m.hour); !math.IsNaN(slope) {
		trend = max(hour+slope*(float64(m.hour)/2+float64(m.h)), 0)
	}
	more := math.Exp(m.lift(m.n, m.target)) - 1
	return [4]float64{now, seasonal, trend, now * more}
}

// sameTime is the mean around the target's time of the day (1) or the week (2) before.
func (m *moment) sameTime(which int) float64 {
	season := m.day
	if which == 2 {
		season = m.week
	}
	i := m.Data.season(m.target, m.n, season)
	return m.mean(i-m.wide, min(i+m.wide+1, m.n))
}

// fit finds the factors of each step: those with the least squared error relative to the recent mean, and near the prior.
func (f *formula) fit(ctx context.Context, data *Data) error {
	factors := make([][4]float64, len(f.Steps))
	for i, h := range f.Steps {
		var err error
		if factors[i], err = fitFormula(ctx, data, h); err != nil {
			return err
		}
	}
	f.Factors = factors
	return nil
}

func fitFormula(ctx context.Context, data *Data, h int) (factors [4]float64, err error) {
	products, right := mat.NewSymDense(4, nil), mat.NewVecDense(4, nil)
	for i, p := range formulaPrior {
		products.SetSym(i, i, formulaWeight)
		right.SetVec(i, formulaWeight*p)
	}
	planned := false
	stride := (len(data.Values) + maxSamples - 1) / maxSamples
	for n := len(data.Values) - h; n > 0; n -= stride {
		value := data.lesson(n - 1 + h)
		if n%1000 == 0 && ctx.Err() != nil {
			return factors, ctx.Err()
		}
		if math.IsNaN(value) || data.latestKnown(n) < 0 {
			continue
		}
		m := data.moment(n, h)
		terms := m.terms()
		planned = planned || terms[3] != 0
		row := mat.NewVecDense(4, terms[:])
		scale := 1 / (terms[0] + 1)
		row.ScaleVec(scale, row)
		products.SymRankOne(products, 1, row)
		right.AddScaledVec(right, value*scale, row)
	}
	var factor mat.Cholesky
	solved := mat.NewVecDense(4, factors[:])
	if !factor.Factorize(products) {
		return factors, errors.New("the terms are no base of a regression")
	}
	err = factor.SolveVecTo(solved, right)
	if !planned {
		factors[3] = 1 // nothing speaks against what is declared
	}
	return factors, err
}

// predict uses the factors of the next step that is learnt.
func (f *formula) predict(data *Data, n int, out []float64) error {
	at := 0
	for k := range out {
		for at < len(f.Steps)-1 && f.Steps[at] < k+1 {
			at++
		}
		m := data.moment(n, k+1)
		out[k] = 0
		for i, term := range m.terms() {
			out[k] += f.Factors[at][i] * term
		}
	}
	return nil
}
