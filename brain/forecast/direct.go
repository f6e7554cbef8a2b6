package forecast

import (
	"context"
	"errors"
	"math"
	"slices"
)

// samples are what models on features learn from: rows of FeatureCount features for one step ahead, and what the value
// was then, as a logarithm relative to the recent mean and what events do.
type samples struct {
	x []float32
	y []float32
}

// maxSamples bounds what one model learns from: 90 days of 5-minute steps. Of longer series every second, third, ... row
// is taken.
const maxSamples = 26_000

// samplesOf returns the rows of all moments of data whose value h steps ahead is known.
func samplesOf(data *Data, h int) samples {
	n := len(data.Values)
	stride := (n + maxSamples - 1) / maxSamples
	var s samples
	row := make([]float32, FeatureCount)
	for origin := n - h; origin > 0; origin -= max(stride, 1) {
		value := data.lesson(origin - 1 + h)
		if math.IsNaN(value) || data.latestKnown(origin) < 0 {
			continue
		}
		level := data.Row(origin, h, row)
		s.x = append(s.x, row...)
		s.y = append(s.y, float32(toLog(value)-level))
	}
	return s
}

func (s samples) count() int { return len(s.y) }

func (s samples) row(i int) []float32 { return s.x[i*FeatureCount : (i+1)*FeatureCount] }

// knots are the steps ahead that models on features learn one by one. Steps between them are interpolated.
func knots(horizon int) []int {
	var steps []int
	for _, share := range []int{0, 20, 40, 65, 100} {
		step := max((horizon*share+50)/100, 1)
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
	}
	return steps
}

// errOtherKnots is what UnmarshalBinary returns for a model of another horizon.
var errOtherKnots = errors.New("the saved model is for other steps")

// learner is a model of one step ahead on features.
type learner interface {
	learn(ctx context.Context, s samples) error
	// say returns 10, 50 and 90 % of the logarithm relative to the recent mean. It may change row.
	say(row []float32) [3]float64
}

// direct is a model that has a learner for each knot.
type direct[L learner] struct {
	knots    []int
	create   func() L
	learners []L
	row      []float32
}

func newDirect[L learner](knots []int, create func() L) *direct[L] {
	return &direct[L]{knots: knots, create: create, row: make([]float32, FeatureCount)}
}

// minSamples is the least that a model on features learns from.
const minSamples = 300

// Fit learns each knot.
func (m *direct[L]) Fit(ctx context.Context, data *Data) error {
	learners := make([]L, len(m.knots))
	for i, h := range m.knots {
		s := samplesOf(data, h)
		if s.count() < minSamples {
			return ErrTooShort
		}
		learners[i] = m.create()
		if err := learners[i].learn(ctx, s); err != nil {
			return err
		}
	}
	m.learners = learners
	return nil
}

// Predict asks the learners, and interpolates between their knots.
func (m *direct[L]) Predict(data *Data, n int, out []Quantiles) error {
	if m.learners == nil {
		return ErrTooShort
	}
	if data.latestKnown(n) < 0 {
		return errNothing
	}
	var before, after [3]float64
	var base float64
	from, to := 0, 0 // the knots before and after the step
	for i, h := range m.knots {
		now := data.moment(n, h)
		now.row(m.row)
		base = now.base
		before, from = after, to
		after, to = m.learners[i].say(m.row), h
		if i == 0 {
			before = after
		}
		for step := from + 1; step <= min(to, len(out)); step++ {
			out[step-1] = between(before, after, float64(step-from)/float64(to-from), base+data.lift(n, n-1+step))
		}
	}
	return nil
}

// between returns what lies a part of the way from one forecast to another.
func between(a, b [3]float64, part, base float64) Quantiles {
	var q [3]float64
	for i := range q {
		q[i] = fromLog(a[i] + part*(b[i]-a[i]) + base)
	}
	return Quantiles{q[0], q[1], q[2]}.proper()
}

// MarshalBinary saves the learners.
func (m *direct[L]) MarshalBinary() ([]byte, error) { return save(m.learners) }

// UnmarshalBinary loads what MarshalBinary saved.
func (m *direct[L]) UnmarshalBinary(saved []byte) error {
	var learners []L
	if err := load(saved, &learners); err != nil {
		return err
	}
	if len(learners) != len(m.knots) {
		return errOtherKnots
	}
	m.learners = learners
	return nil
}
