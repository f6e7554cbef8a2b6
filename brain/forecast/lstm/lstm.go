// Package lstm learns sequences with a recurrent network of long short-term memory cells (Hochreiter and
// Schmidhuber, Neural Computation 9, 1997, with the forget gate of Gers, Schmidhuber and Cummins, Neural
// Computation 12, 2000): at each step it reads the features of that step and estimates three quantiles of
// each of some targets ahead. Numbers in, numbers out: it knows nothing of time or traffic.
//
// What is learnt is a function of the data, the options and the seed alone, bit for bit on one machine.
package lstm

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Quantiles are those that are estimated of each target, in the order of Forecast.
var Quantiles = [3]float64{0.1, 0.5, 0.9}

// Shape is the size of a network.
type Shape struct {
	Features int // numbers read at each step
	Hidden   int // cells
	Horizon  int // targets estimated at each step
}

// Network is what Options.Fit learns. Safe for concurrent use; unmarshalling is not.
type Network struct {
	shape      Shape
	features   []scale // of each feature
	targets    []scale // of each target
	parameters []float32
	weights    // views of parameters
}

// weights are matrices that rows are multiplied by. The rows end in a 1, for the bias.
type weights struct {
	input     blas32.General // (features + 1) x gates
	recurrent blas32.General // hidden x gates
	output    blas32.General // (hidden + 1) x outputs
}

// The gates of all cells lie side by side: input, forget, candidate, output.
func (s Shape) gates() int { return 4 * s.Hidden }

// Of each target there are its median, and what makes the distances of the other quantiles from it.
func (s Shape) outputs() int { return len(Quantiles) * s.Horizon }

func (s Shape) parameters() int {
	return (s.Features+1+s.Hidden)*s.gates() + (s.Hidden+1)*s.outputs()
}

// view returns the matrices that parameters, or their gradient, are made of.
func (s Shape) view(parameters []float32) weights {
	take := func(rows, columns int) blas32.General {
		taken := matrix(parameters[:rows*columns], columns)
		parameters = parameters[rows*columns:]
		return taken
	}
	return weights{
		input:     take(s.Features+1, s.gates()),
		recurrent: take(s.Hidden, s.gates()),
		output:    take(s.Hidden+1, s.outputs()),
	}
}

// Shape returns the size of the network.
func (n *Network) Shape() Shape { return n.shape }

// State is what a network remembers of a sequence. Not safe for concurrent use.
type State struct {
	input  []float32 // features, and 1
	hidden []float32 // what the cells showed last, and 1
	cells  []float32
	gates  []float32
	output []float32
}

// NewState returns the state before the first step.
func (n *Network) NewState() *State {
	s := &State{
		input:  make([]float32, n.shape.Features+1),
		hidden: make([]float32, n.shape.Hidden+1),
		cells:  make([]float32, n.shape.Hidden),
		gates:  make([]float32, n.shape.gates()),
		output: make([]float32, n.shape.outputs()),
	}
	s.input[n.shape.Features], s.hidden[n.shape.Hidden] = 1, 1
	return s
}

// Step reads the features of the next step. A NaN counts as the feature's mean.
func (n *Network) Step(s *State, features []float32) {
	n.read(features, s.input)
	blas32.Gemv(blas.Trans, 1, n.input, vector(s.input), 0, vector(s.gates))
	blas32.Gemv(blas.Trans, 1, n.recurrent, vector(s.hidden[:n.shape.Hidden]), 1, vector(s.gates))
	activate(s.gates, s.cells, s.cells, s.hidden)
}

// read writes features to an input of the network.
func (n *Network) read(features, input []float32) {
	for i, value := range features[:n.shape.Features] {
		input[i] = n.features[i].reduce(value)
	}
}

// estimate computes the output as of the last step.
func (n *Network) estimate(s *State) {
	blas32.Gemv(blas.Trans, 1, n.output, vector(s.hidden), 0, vector(s.output))
}

// Forecast returns the Quantiles of each target as of the last step, in order: they never cross.
func (n *Network) Forecast(s *State) [][3]float32 {
	n.estimate(s)
	forecast := make([][3]float32, n.shape.Horizon)
	for i := range forecast {
		for k, value := range spread(s.output[3*i:]) {
			forecast[i][k] = n.targets[i].restore(value)
		}
	}
	return forecast
}

// spread makes quantiles of the outputs for a target.
func spread(output []float32) [3]float32 {
	median := output[1]
	return [3]float32{median - softplus(output[0]), median, median + softplus(output[2])}
}

// activate lets the gates act on the cells of a row. before and after may be the same.
func activate(gates, before, after, hidden []float32) {
	size := len(before)
	input, forget, candidate, output := gates[:size], gates[size:2*size], gates[2*size:3*size], gates[3*size:4*size]
	for i := range before {
		input[i], forget[i] = sigmoid(input[i]), sigmoid(forget[i])
		candidate[i], output[i] = tanh(candidate[i]), sigmoid(output[i])
		after[i] = forget[i]*before[i] + input[i]*candidate[i]
		hidden[i] = output[i] * tanh(after[i])
	}
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
func tanh(x float32) float32    { return float32(1 - 2/(1+math.Exp(2*float64(x)))) }

// softplus is log(1 + exp(x)), positive and smooth. Its derivative is sigmoid.
func softplus(x float32) float32 {
	return max(x, 0) + float32(math.Log1p(math.Exp(-math.Abs(float64(x)))))
}
