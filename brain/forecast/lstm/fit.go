package lstm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas/blas32"
)

// Data is a sequence to learn from, step after step.
type Data struct {
	Features, Horizon int       // numbers and targets of a step
	Inputs            []float32 // steps x Features; a NaN counts as the feature's mean
	Targets           []float32 // steps x Horizon; a NaN is not learnt from
}

func (d Data) steps() int { return len(d.Inputs) / d.Features }

func (d Data) input(step int) []float32  { return d.Inputs[step*d.Features : (step+1)*d.Features] }
func (d Data) target(step int) []float32 { return d.Targets[step*d.Horizon : (step+1)*d.Horizon] }

// cut returns the first steps, and what is left.
func (d Data) cut(steps int) (first, last Data) {
	first, last = d, d
	first.Inputs, last.Inputs = d.Inputs[:steps*d.Features], d.Inputs[steps*d.Features:]
	first.Targets, last.Targets = d.Targets[:steps*d.Horizon], d.Targets[steps*d.Horizon:]
	return first, last
}

// Options say how to learn. A zero field means its default.
type Options struct {
	Hidden  int     // cells; default 128
	Epochs  int     // how often all data are gone through; more learn the noise. Default 6
	Streams int     // the sequence is cut into so many, gone through side by side; default 16
	Window  int     // steps that the loss is followed back; default 24
	Rate    float64 // of Adam, at the beginning: it falls to 0 in a line; default 0.004
	Clip    float64 // longest gradient; longer ones are shortened to it (Pascanu et al., ICML 2013); default 1
	Seed    uint64  // of the weights to begin with

	// Stopping early: the last steps, this share of all, are not learnt from; the network returned is that
	// of the epoch with the least loss on them, and learning ends when it has not fallen for Patience epochs
	// (default 3). 0 learns from all steps and goes through all epochs.
	Held     float64
	Patience int
}

// ErrDiverged is what Fit returns when the loss is no number any more.
var ErrDiverged = errors.New("the network diverged: learn with a lower rate")

func (o Options) complete() (Options, error) {
	o.Hidden = cmp.Or(o.Hidden, 128)
	o.Epochs = cmp.Or(o.Epochs, 6)
	o.Streams = cmp.Or(o.Streams, 16)
	o.Window = cmp.Or(o.Window, 24)
	o.Rate = cmp.Or(o.Rate, 0.004)
	o.Clip = cmp.Or(o.Clip, 1)
	o.Patience = cmp.Or(o.Patience, 3)
	if min(o.Hidden, o.Epochs, o.Streams, o.Window, o.Patience) < 1 {
		return o, fmt.Errorf("a network cannot learn with %d cells, %d epochs, %d streams, windows of %d steps and a "+
			"patience of %d: give 1 or more of each", o.Hidden, o.Epochs, o.Streams, o.Window, o.Patience)
	}
	if !(o.Rate > 0 && finite(o.Rate)) || !(o.Clip > 0) || !(o.Held >= 0 && o.Held < 1) {
		return o, fmt.Errorf("a network cannot learn with a rate of %v, gradients up to %v and a share of held steps of %v: "+
			"give positive ones, and a share below 1", o.Rate, o.Clip, o.Held)
	}
	return o, nil
}

func (d Data) check() error {
	switch {
	case d.Features < 1 || d.Horizon < 1 || len(d.Inputs)%d.Features != 0:
		return fmt.Errorf("%d numbers make no steps of %d features for %d targets: give 1 or more of each, and full steps",
			len(d.Inputs), d.Features, d.Horizon)
	case len(d.Targets) != d.steps()*d.Horizon:
		return fmt.Errorf("%d targets for %d steps: give %d for each step", len(d.Targets), d.steps(), d.Horizon)
	case !slices.ContainsFunc(d.Targets, func(t float32) bool { return finite(float64(t)) }):
		return fmt.Errorf("none of %d steps has a target: there is nothing to learn from", d.steps())
	}
	return nil
}

// Fit learns from data. It begins with random weights, or with those of a network that was learnt before,
// which stays as it is: then the data must have the same features and targets, and are scaled as that
// network's first data were. It returns the context's error soon after that is done.
func (o Options) Fit(ctx context.Context, data Data, from *Network) (*Network, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := data.check(); err != nil {
		return nil, err
	}
	learnt, held := data.cut(data.steps() - int(o.Held*float64(data.steps())))
	if err := learnt.check(); err != nil {
		return nil, err
	}
	shape := Shape{data.Features, o.Hidden, data.Horizon}
	n := newNetwork(shape, o.Seed)
	if from != nil {
		if from.shape != shape {
			return nil, fmt.Errorf("a network of %+v cannot go on from one of %+v", shape, from.shape)
		}
		n.features, n.targets = from.features, from.targets
		copy(n.parameters, from.parameters)
	} else {
		n.features, n.targets = scales(learnt.Inputs, data.Features), scales(learnt.Targets, data.Horizon)
	}
	return o.learn(ctx, n, learnt, held)
}

// newNetwork returns one with random weights, whose cells keep what they have (forget gates' bias 1:
// Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML
// 2015).
func newNetwork(shape Shape, seed uint64) *Network {
	n := &Network{shape: shape, parameters: make([]float32, shape.parameters())}
	n.weights = shape.view(n.parameters)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, m := range []blas32.General{n.input, n.recurrent, n.output} {
		limit := math.Sqrt(3/float64(m.Rows)) / 2
		for i := range m.Data {
			m.Data[i] = float32((2*random.Float64() - 1) * limit)
		}
	}
	for i, bias := 0, row(n.input, shape.Features)[shape.Hidden:2*shape.Hidden]; i < len(bias); i++ {
		bias[i] = 1
	}
	return n
}

// course is one run of Fit.
type course struct {
	Options
	*Network
	data, held Data
	streams    int
	length     int // steps of a stream
	window     *window
	flat       []float32 // the gradient
	gradient   weights   // views of it
	adam       *adam
}

func (o Options) learn(ctx context.Context, n *Network, data, held Data) (*Network, error) {
	c := &course{Options: o, Network: n, data: data, held: held, flat: make([]float32, len(n.parameters))}
	c.Window = min(o.Window, data.steps())
	c.streams = min(o.Streams, data.steps()/c.Window)
	c.length = data.steps() / c.streams / c.Window * c.Window
	c.window = newWindow(n.shape, c.streams, c.Window)
	c.gradient = n.shape.view(c.flat)
	c.adam = newAdam(len(n.parameters))

	best, lowest, bestEpoch := slices.Clone(n.parameters), math.Inf(1), 0
	for epoch := 1; epoch <= o.Epochs && (held.steps() == 0 || epoch-bestEpoch <= o.Patience); epoch++ {
		if err := c.epoch(ctx); err != nil {
			return nil, err
		}
		if held.steps() == 0 {
			continue
		}
		if loss := c.heldLoss(); loss < lowest {
			lowest, bestEpoch = loss, epoch
			copy(best, n.parameters)
		}
	}
	if held.steps() > 0 {
		copy(n.parameters, best)
	}
	if !finite(norm(n.parameters)) {
		return nil, ErrDiverged
	}
	return n, nil
}

// epoch goes through the data once.
func (c *course) epoch(ctx context.Context) error {
	c.window.restart()
	for first := 0; first < c.length; first += c.Window {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.fill(first)
		c.window.forward(&c.weights)
		if loss := c.window.loss(); !finite(loss) {
			return ErrDiverged
		}
		c.window.backward(&c.weights, &c.gradient)
		if length := norm(c.flat); length > c.Clip {
			blas32.Scal(float32(c.Clip/length), vector(c.flat))
		}
		left := 1 - float64(c.adam.updates)/float64(c.Epochs*c.length/c.Window)
		c.adam.update(c.parameters, c.flat, c.Rate*left)
		c.window.carry()
	}
	return nil
}

// fill writes the steps of all streams from first on into the window. What does not make full windows is left
// out where the data begin.
func (c *course) fill(first int) {
	skipped := c.data.steps() - c.streams*c.length
	for step := range c.Window {
		for stream := range c.streams {
			from, to := skipped+stream*c.length+first+step, step*c.streams+stream
			c.read(c.data.input(from), row(c.window.input, to))
			for i, target := range c.data.target(from) {
				row(c.window.targets, to)[i] = c.targets[i].standard(target)
			}
		}
	}
}

// heldLoss returns the sum of the losses of the steps held out, after some steps to remember.
func (c *course) heldLoss() float64 {
	state := c.NewState()
	for i := max(0, c.data.steps()-warming*c.Window); i < c.data.steps(); i++ {
		c.Step(state, c.data.input(i))
	}
	var total float64
	for i := range c.held.steps() {
		c.Step(state, c.held.input(i))
		c.estimate(state)
		for k, target := range c.held.target(i) {
			if target = c.targets[k].standard(target); target == target {
				loss, _ := pinball(target, spread(state.output[3*k:]))
				total += loss
			}
		}
	}
	return total
}

// warming is how many windows of steps are read before the loss on those held out is measured.
const warming = 10
