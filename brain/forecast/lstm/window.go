package lstm

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// window is a number of steps of some streams that are learnt from side by side. Its rows are steps, and
// within a step streams. hidden and cells have a step more, the first: the one before the window.
type window struct {
	shape          Shape
	streams, steps int
	input          blas32.General // features and 1
	gates          blas32.General // their values, then the loss's derivatives by what came into them
	hidden         blas32.General // what the cells show, and 1
	cells          blas32.General
	output         blas32.General // what came out, then the loss's derivatives by it
	back           blas32.General // the loss's derivatives by what the cells show
	backCells      blas32.General // those by the cells, of one step
	targets        blas32.General // NaN where there is none
}

func newWindow(shape Shape, streams, steps int) *window {
	rows := streams * steps
	w := &window{
		shape: shape, streams: streams, steps: steps,
		input:     newMatrix(rows, shape.Features+1),
		gates:     newMatrix(rows, shape.gates()),
		hidden:    newMatrix(rows+streams, shape.Hidden+1),
		cells:     newMatrix(rows+streams, shape.Hidden),
		output:    newMatrix(rows, shape.outputs()),
		back:      newMatrix(rows, shape.Hidden),
		backCells: newMatrix(streams, shape.Hidden),
		targets:   newMatrix(rows, shape.Horizon),
	}
	for i := range rows {
		row(w.input, i)[shape.Features] = 1
	}
	w.restart()
	return w
}

// restart forgets what came before.
func (w *window) restart() {
	clear(w.hidden.Data)
	clear(w.cells.Data)
	for i := range w.hidden.Rows {
		row(w.hidden, i)[w.shape.Hidden] = 1
	}
}

// carry makes the last step the one before the window.
func (w *window) carry() {
	last := w.streams * w.steps
	copy(w.hidden.Data, w.hidden.Data[last*w.hidden.Stride:])
	copy(w.cells.Data, w.cells.Data[last*w.cells.Stride:])
}

// step returns the rows of a step of a matrix.
func (w *window) step(m blas32.General, i, columns int) blas32.General {
	return part(m, i*w.streams, w.streams, columns)
}

// forward runs the network over the window.
func (w *window) forward(n *weights) {
	multiply(blas.NoTrans, blas.NoTrans, w.input, n.input, 0, w.gates)
	for i := range w.steps {
		multiply(blas.NoTrans, blas.NoTrans, w.step(w.hidden, i, w.shape.Hidden), n.recurrent, 1,
			w.step(w.gates, i, w.shape.gates()))
		for k := i * w.streams; k < (i+1)*w.streams; k++ {
			activate(row(w.gates, k), row(w.cells, k), row(w.cells, k+w.streams), row(w.hidden, k+w.streams))
		}
	}
	multiply(blas.NoTrans, blas.NoTrans, part(w.hidden, w.streams, w.output.Rows, w.shape.Hidden+1), n.output, 0, w.output)
}

// loss returns the mean pinball loss of the known targets, and puts its derivatives in the place of the
// output. Without any target it is 0.
func (w *window) loss() float64 {
	known := 0
	for _, target := range w.targets.Data {
		if target == target {
			known++
		}
	}
	share := 1 / float32(max(known, 1))
	var total float64
	for i, target := range w.targets.Data {
		output := w.output.Data[3*i : 3*i+3]
		if target != target {
			clear(output)
			continue
		}
		loss, slopes := pinball(target, spread(output))
		total += loss
		output[0] = -slopes[0] * sigmoid(output[0]) * share
		output[2] = slopes[2] * sigmoid(output[2]) * share
		output[1] = (slopes[0] + slopes[1] + slopes[2]) * share
	}
	return total / float64(max(known, 1))
}

// pinball returns the sum of the losses of the quantiles for a target (Koenker and Bassett, Econometrica 46,
// 1978), and its derivative by each of them.
func pinball(target float32, quantiles [3]float32) (loss float64, slopes [3]float32) {
	for k, q := range Quantiles {
		distance := float64(target) - float64(quantiles[k])
		slope := -q
		if distance < 0 {
			slope = 1 - q
		}
		loss -= slope * distance
		slopes[k] = float32(slope)
	}
	return loss, slopes
}

// backward writes the gradient of the loss by the weights. What came before the window is taken as given:
// truncated back-propagation through time (Williams and Peng, Neural Computation 2, 1990).
func (w *window) backward(n, gradient *weights) {
	hidden := w.shape.Hidden
	shown := part(w.hidden, w.streams, w.output.Rows, hidden+1)
	multiply(blas.Trans, blas.NoTrans, shown, w.output, 0, gradient.output)
	multiply(blas.NoTrans, blas.Trans, w.output, part(n.output, 0, hidden, n.output.Cols), 0, w.back)

	clear(w.backCells.Data)
	for i := w.steps - 1; i >= 0; i-- {
		for k := range w.streams {
			w.backRow(i*w.streams+k, row(w.backCells, k))
		}
		if i > 0 {
			multiply(blas.NoTrans, blas.Trans, w.step(w.gates, i, w.shape.gates()), n.recurrent, 1,
				w.step(w.back, i-1, hidden))
		}
	}
	multiply(blas.Trans, blas.NoTrans, w.input, w.gates, 0, gradient.input)
	multiply(blas.Trans, blas.NoTrans, part(w.hidden, 0, w.gates.Rows, hidden), w.gates, 0, gradient.recurrent)
}

// backRow puts the derivatives by what came into the gates of a row in their place, and those by the cells of
// the step before in the place of those by its cells after.
func (w *window) backRow(i int, backCells []float32) {
	size := w.shape.Hidden
	gates, back := row(w.gates, i), row(w.back, i)
	input, forget, candidate, output := gates[:size], gates[size:2*size], gates[2*size:3*size], gates[3*size:]
	before, after := row(w.cells, i), row(w.cells, i+w.streams)
	for k := range backCells {
		in, keep, new, out, shown := input[k], forget[k], candidate[k], output[k], tanh(after[k])
		cell := backCells[k] + back[k]*out*(1-shown*shown)
		input[k] = cell * new * in * (1 - in)
		forget[k] = cell * before[k] * keep * (1 - keep)
		candidate[k] = cell * in * (1 - new*new)
		output[k] = back[k] * shown * out * (1 - out)
		backCells[k] = cell * keep
	}
}
