package lstm

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const day = 48 // steps

// daily makes a pattern that repeats each day, with noise of deviation 0.1 around a curve between -1 and 1.5.
// Features are the last value and the time of day; targets the values ahead. Some numbers of both are
// missing.
func daily(steps, horizon int, seed uint64) (data Data, curve func(step int) float64) {
	random := rand.New(rand.NewPCG(seed, 3))
	curve = func(step int) float64 {
		phase := 2 * math.Pi * float64(step) / day
		return math.Sin(phase) + 0.5*math.Cos(2*phase)
	}
	values := make([]float32, steps+horizon)
	for i := range values {
		values[i] = float32(curve(i) + 0.1*random.NormFloat64())
	}
	data = Data{Features: 3, Horizon: horizon}
	for i := range steps {
		phase := 2 * math.Pi * float64(i) / day
		data.Inputs = append(data.Inputs, values[i], float32(math.Sin(phase)), float32(math.Cos(phase)))
		data.Targets = append(data.Targets, values[i+1:i+1+horizon]...)
		if random.IntN(20) == 0 {
			data.Inputs[3*i], data.Targets[horizon*i] = nan, nan
		}
	}
	return data, curve
}

func fit(t testing.TB, o Options, data Data, from *Network) *Network {
	t.Helper()
	n, err := o.Fit(t.Context(), data, from)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func bytes(n *Network) []byte {
	data, err := n.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return data
}

// filled returns a window of random steps, and a network for it.
func filled(shape Shape, streams, steps int) (*window, *Network) {
	random := rand.New(rand.NewPCG(1, 1))
	n := newNetwork(shape, 1)
	n.features, n.targets = slices.Repeat([]scale{{0, 1}}, shape.Features), slices.Repeat([]scale{{0, 1}}, shape.Horizon)
	w := newWindow(shape, streams, steps)
	for i := range w.input.Rows {
		for k := range shape.Features {
			row(w.input, i)[k] = float32(random.NormFloat64())
		}
		for k := range shape.Horizon {
			row(w.targets, i)[k] = float32(random.NormFloat64())
		}
	}
	w.targets.Data[1] = nan
	return w, n
}

// Every derivative is what the loss changes by when its weight does.
func TestGradientAgreesWithDifferences(t *testing.T) {
	shape := Shape{Features: 3, Hidden: 5, Horizon: 2}
	w, n := filled(shape, 2, 6)
	flat := make([]float32, len(n.parameters))
	gradient := shape.view(flat)
	w.forward(&n.weights)
	w.loss()
	w.backward(&n.weights, &gradient)

	loss := func() float64 {
		w.forward(&n.weights)
		return w.loss()
	}
	const small = 1e-2 // smaller ones drown in the rounding of float32
	wrong := make([]float32, len(flat))
	for i := range n.parameters {
		was := n.parameters[i]
		n.parameters[i] = was + small
		above := loss()
		n.parameters[i] = was - small
		below := loss()
		n.parameters[i] = was
		wrong[i] = flat[i] - float32((above-below)/(2*small))
		if math.Abs(float64(wrong[i])) > 2e-3 {
			t.Errorf("parameter %d: derivative %.5f, off by %.5f", i, flat[i], wrong[i])
		}
	}
	if share := norm(wrong) / norm(flat); share > 0.01 {
		t.Errorf("the gradient is off by %.4f of its length", share)
	}
	t.Logf("off by %.5f of %.5f", norm(wrong), norm(flat))
}

// Going step by step makes the same as going through windows, of which the second goes on from the first.
func TestStepsAgreeWithWindows(t *testing.T) {
	shape := Shape{Features: 47, Hidden: 70, Horizon: 15}
	const streams, steps = 3, 5
	w, n := filled(shape, streams, steps)
	states := []*State{n.NewState(), n.NewState(), n.NewState()}
	for range 2 {
		w.forward(&n.weights)
		for i := range steps {
			for stream, state := range states {
				n.Step(state, row(w.input, i*streams+stream))
				for target, quantiles := range n.Forecast(state) {
					want := spread(row(w.output, i*streams+stream)[3*target:])
					for k := range quantiles {
						if math.Abs(float64(quantiles[k]-want[k])) > 1e-4 {
							t.Fatalf("step %d, target %d: %v, want %v", i, target, quantiles, want)
						}
					}
				}
			}
		}
		w.carry()
	}
}

func TestLearnsADailyPattern(t *testing.T) {
	data, _ := daily(60*day, 6, 1)
	n := fit(t, Options{Hidden: 24, Epochs: 20, Streams: 8}, data, nil)

	fresh, curve := daily(20*day, 6, 2)
	state := n.NewState()
	var wrong, below, count float64
	for i := range fresh.steps() {
		n.Step(state, fresh.input(i))
		if i < day {
			continue // the state is young
		}
		for k, quantiles := range n.Forecast(state) {
			if !(quantiles[0] <= quantiles[1] && quantiles[1] <= quantiles[2]) {
				t.Fatalf("the quantiles %v cross", quantiles)
			}
			wrong += math.Abs(float64(quantiles[1]) - curve(i+1+k))
			if target := fresh.target(i)[k]; target == target {
				count++
				if quantiles[0] <= target && target <= quantiles[2] {
					below++
				}
			}
		}
	}
	if wrong /= count; wrong > 0.05 { // half of the noise's deviation; the curve is 0.7 away from its mean
		t.Errorf("the median is off by %.3f in the mean", wrong)
	}
	if share := below / count; math.Abs(share-0.8) > 0.06 {
		t.Errorf("%.3f lie between the 0.1- and the 0.9-quantile", share)
	}
	t.Logf("off by %.3f, %.3f inside", wrong, below/count)
}

func TestSameSeedSameNetwork(t *testing.T) {
	data, _ := daily(10*day, 2, 1)
	learn := func(seed uint64) string {
		return string(bytes(fit(t, Options{Hidden: 70, Epochs: 2, Seed: seed}, data, nil)))
	}
	first, again, other := learn(1), learn(1), learn(2)
	if first != again {
		t.Error("the same seed made another network")
	}
	if first == other {
		t.Error("another seed made the same network")
	}
}

// A network that goes on from another one is better than both that one and one that begins anew, and leaves
// it alone.
func TestGoesOnFromAnother(t *testing.T) {
	data, _ := daily(30*day, 3, 1)
	fresh, _ := daily(10*day, 3, 2)
	loss := func(n *Network) float64 {
		return (&course{Network: n, Options: Options{}, data: fresh, held: fresh}).heldLoss()
	}
	options := Options{Hidden: 16, Epochs: 3}
	first := fit(t, options, data, nil)
	before := bytes(first)
	further := fit(t, options, data, first)
	if loss(further) >= loss(first) {
		t.Errorf("loss %v, %v before", loss(further), loss(first))
	}
	if string(bytes(first)) != string(before) {
		t.Error("the first network has changed")
	}
	if _, err := (Options{Hidden: 17}).Fit(t.Context(), data, first); err == nil {
		t.Error("a network of another size goes on from it")
	}
}

// Targets that change their course in the steps held out stop the learning of the former course.
func TestStopsEarly(t *testing.T) {
	data, _ := daily(30*day, 2, 1)
	learnt, held := data.cut(27 * day)
	for i := range held.Targets {
		held.Targets[i] *= -1
	}
	n := fit(t, Options{Hidden: 8, Epochs: 40, Held: 0.1, Patience: 2, Seed: 1}, data, nil)
	all := fit(t, Options{Hidden: 8, Epochs: 40, Seed: 1}, learnt, nil)
	loss := func(n *Network) float64 { return (&course{Network: n, data: learnt, held: held}).heldLoss() }
	scaled := *all
	if scaled.features[0] != n.features[0] {
		t.Error("the scale was made with the steps held out")
	}
	if loss(n) >= loss(all) {
		t.Errorf("the loss on the steps held out is %v, %v when they are not looked at", loss(n), loss(all))
	}
}

func TestDivergenceIsAnError(t *testing.T) {
	data, _ := daily(10*day, 2, 1)
	_, err := Options{Hidden: 8, Rate: 1e38, Clip: 1e30}.Fit(t.Context(), data, nil)
	if !errors.Is(err, ErrDiverged) {
		t.Errorf("error %v", err)
	}
}

// Whatever is read, an estimate is a number, and what was never read before does not take over.
func TestAbsurdFeatures(t *testing.T) {
	data, _ := daily(30*day, 2, 1)
	n := fit(t, Options{Hidden: 16, Epochs: 3}, data, nil)
	infinity := float32(math.Inf(1))
	for _, features := range [][]float32{
		{nan, nan, nan}, {infinity, -infinity, 0}, {math.MaxFloat32, -math.MaxFloat32, 1e30},
	} {
		state := n.NewState()
		for range day {
			n.Step(state, features)
		}
		for _, quantiles := range n.Forecast(state) {
			for _, value := range quantiles {
				if !(math.Abs(float64(value)) < 20) {
					t.Errorf("%v makes %v", features, quantiles)
				}
			}
		}
	}
	mean := []float32{n.features[0].Mean, n.features[1].Mean, n.features[2].Mean}
	missing, known := n.NewState(), n.NewState()
	n.Step(missing, []float32{nan, nan, nan})
	n.Step(known, mean)
	if !slices.Equal(missing.hidden, known.hidden) {
		t.Error("a missing number is not the mean")
	}
}

func TestRefusesWhatMakesNoSequence(t *testing.T) {
	for want, data := range map[string]Data{
		"full steps":         {Features: 2, Horizon: 1, Inputs: []float32{1, 2, 3}, Targets: []float32{1}},
		"0 features":         {Horizon: 1, Inputs: []float32{1}, Targets: []float32{1}},
		"3 targets for 1":    {Features: 2, Horizon: 1, Inputs: []float32{1, 2}, Targets: []float32{1, 2, 3}},
		"none of 1 steps":    {Features: 2, Horizon: 1, Inputs: []float32{1, 2}, Targets: []float32{nan}},
		"none of 0 steps ha": {Features: 2, Horizon: 1},
	} {
		if _, err := (Options{}).Fit(t.Context(), data, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	good, _ := daily(day, 1, 1)
	for _, options := range []Options{{Hidden: -1}, {Epochs: -1}, {Rate: -1}, {Clip: -1}, {Held: 1}} {
		if _, err := options.Fit(t.Context(), good, nil); err == nil {
			t.Errorf("%+v is accepted", options)
		}
	}
}

// A sequence shorter than a window is one.
func TestFewSteps(t *testing.T) {
	data, _ := daily(5, 2, 1)
	n := fit(t, Options{Hidden: 4}, data, nil)
	state := n.NewState()
	n.Step(state, data.input(0))
	if forecast := n.Forecast(state); len(forecast) != 2 || !finite(float64(forecast[1][1])) {
		t.Errorf("%v", forecast)
	}
}

func TestFitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	data, _ := daily(day, 2, 1)
	if _, err := (Options{}).Fit(ctx, data, nil); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}
