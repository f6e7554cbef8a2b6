package forecast

import (
	"context"
	"math"

	"gonum.org/v1/gonum/optimize"
)

// minimise returns where f is least near start, as far as Nelder and Mead's simplex method (1965) finds in so many
// evaluations. Where f is NaN it counts as infinite.
func minimise(ctx context.Context, f func([]float64) float64, start []float64, evaluations int) ([]float64, error) {
	if len(start) == 0 {
		return nil, ctx.Err()
	}
	problem := optimize.Problem{
		Func: func(x []float64) float64 {
			if v := f(x); !math.IsNaN(v) {
				return v
			}
			return math.Inf(1)
		},
		Status: func() (optimize.Status, error) { return optimize.NotTerminated, ctx.Err() },
	}
	settings := &optimize.Settings{FuncEvaluations: evaluations, Converger: &optimize.FunctionConverge{Relative: 1e-6, Iterations: 20}}
	result, err := optimize.Minimize(problem, start, settings, &optimize.NelderMead{SimplexSize: 0.3})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if result == nil {
		return nil, err
	}
	return result.X, nil
}
