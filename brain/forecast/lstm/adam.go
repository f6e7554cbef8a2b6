package lstm

import "math"

// adam moves parameters along the gradient's mean over its deviation, both of the recent updates (Kingma and
// Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1).
type adam struct {
	updates     int
	mean, power []float32 // of each parameter's gradient
}

// Those the paper recommends.
const (
	keepMean  = 0.9
	keepPower = 0.999
	epsilon   = 1e-8
)

func newAdam(parameters int) *adam {
	return &adam{mean: make([]float32, parameters), power: make([]float32, parameters)}
}

func (a *adam) update(parameters, gradient []float32, rate float64) {
	a.updates++
	unbiasedMean := float32(rate / (1 - math.Pow(keepMean, float64(a.updates))))
	unbiasedPower := float32(1 / (1 - math.Pow(keepPower, float64(a.updates))))
	for i, g := range gradient {
		a.mean[i] = keepMean*a.mean[i] + (1-keepMean)*g
		a.power[i] = keepPower*a.power[i] + (1-keepPower)*g*g
		parameters[i] -= unbiasedMean * a.mean[i] / (float32(math.Sqrt(float64(unbiasedPower*a.power[i]))) + epsilon)
	}
}
