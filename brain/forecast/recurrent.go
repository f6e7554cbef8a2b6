package forecast

import (
	"context"
	"math"

	"github.com/sluicelb/sluice/brain/forecast/lstm"
)

// recurrent is an LSTM that reads the features of one step after the other, and forecasts all steps of the horizon.
type recurrent struct {
	horizon int
	seed    uint64
	network *lstm.Network

	state *lstm.State
	at    int // how many values the state has seen
	row   []float32
}

const (
	// recurrentSteps is how many of the latest steps it learns from.
	recurrentSteps = maxSamples
	// recurrentWarmUp is how many steps a state must read until it forgets that it began with nothing.
	recurrentWarmUp = 300
	// againEpochs is how often a network that was fitted before goes through the data when it is again.
	againEpochs = 1
)

func newRecurrent(o Options) *recurrent {
	return &recurrent{horizon: o.Horizon, seed: o.Seed + 3, row: make([]float32, FeatureCount)}
}

// Fit learns, and goes on from what was learnt before.
func (m *recurrent) Fit(ctx context.Context, data *Data) error {
	n := len(data.Values)
	begin := max(n-recurrentSteps, 1)
	if known(data.Values) < minSamples {
		return ErrTooShort
	}
	sequence := lstm.Data{Features: FeatureCount, Horizon: m.horizon}
	for origin := begin; origin < n; origin++ {
		now := data.moment(origin, m.horizon)
		now.row(m.row)
		sequence.Inputs = append(sequence.Inputs, m.row...)
		for i := origin; i < origin+m.horizon; i++ {
			target := math.NaN()
			if i < n {
				target = toLog(data.lesson(i)) - now.base - data.lift(origin, i)
			}
			sequence.Targets = append(sequence.Targets, float32(target))
		}
	}
	options := lstm.Options{Seed: m.seed}
	if m.network != nil {
		options.Epochs, options.Rate = againEpochs, 0.001
	}
	network, err := options.Fit(ctx, sequence, m.network)
	if err != nil {
		return err
	}
	m.network, m.state = network, nil
	return nil
}

// Predict has the state read what came since it was asked last.
func (m *recurrent) Predict(data *Data, n int, out []Quantiles) error {
	switch {
	case m.network == nil:
		return ErrTooShort
	case data.latestKnown(n) < 0:
		return errNothing
	case m.state == nil || m.at > n:
		m.state, m.at = m.network.NewState(), max(n-recurrentWarmUp, 0)
	}
	for m.at < n {
		m.at++
		now := data.moment(m.at, m.horizon)
		now.row(m.row)
		m.network.Step(m.state, m.row)
	}
	base := toLog(data.recent(n, baseSteps))
	for k, q := range m.network.Forecast(m.state)[:len(out)] {
		values := [3]float64{float64(q[0]), float64(q[1]), float64(q[2])}
		out[k] = between(values, values, 0, base+data.lift(n, n+k))
		if math.IsNaN(values[1]) {
			return lstm.ErrDiverged
		}
	}
	return nil
}

// MarshalBinary saves the network.
func (m *recurrent) MarshalBinary() ([]byte, error) { return save(m.network) }

// UnmarshalBinary loads what MarshalBinary saved.
func (m *recurrent) UnmarshalBinary(saved []byte) error {
	network := new(lstm.Network)
	if err := load(saved, network); err != nil {
		return err
	}
	if network.Shape().Features != FeatureCount || network.Shape().Horizon != m.horizon {
		return errOtherKnots
	}
	m.network, m.state = network, nil
	return nil
}
