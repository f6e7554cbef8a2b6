package forecast

import (
	"context"
	"errors"
	"math"
	"slices"
)

// errNothing is what Predict returns without any value to go by.
var errNothing = errors.New("no values yet")

// point is a model that says one value a step, from which its past errors make quantiles.
type point interface {
	fit(ctx context.Context, data *Data) error
	// predict fills in the forecast of the steps after the first n values, of which one at least is known.
	predict(data *Data, n int, out []float64) error
}

// pointModel makes a Model of one.
type pointModel struct {
	point point
	errs  spread
	path  []float64
}

// spread are quantiles of what the value was, less the forecast, as logarithms, for each step ahead.
type spread struct{ Low, High []float64 }

// widest is the spread of a model that was never seen to forecast: a factor of about two.
const widest = 0.7

// Fit learns the model, and from the latest past how far off it is.
func (m *pointModel) Fit(ctx context.Context, data *Data) error {
	if err := m.point.fit(ctx, data); err != nil {
		return err
	}
	return m.measure(ctx, data)
}

// judgedCount is how many past forecasts tell the spread, of as many days at most.
const (
	judgedCount = 600
	judgedDays  = 14
)

func (m *pointModel) measure(ctx context.Context, data *Data) error {
	n, steps := len(data.Values), len(m.path)
	from := max(n-judgedDays*data.Steps(Day), n/4)
	stride := max((n-from)/judgedCount, 1)
	residuals := make([][]float64, steps)
	for origin := from; origin < n; origin += stride {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if data.latestKnown(origin) < 0 || m.point.predict(data, origin, m.path) != nil {
			continue
		}
		for k, forecast := range m.path {
			if residual := toLog(data.at(origin+k, n)) - toLog(max(forecast, 0)); !math.IsNaN(residual) {
				residuals[k] = append(residuals[k], residual)
			}
		}
	}
	m.errs = spread{make([]float64, steps), make([]float64, steps)}
	for k, r := range residuals {
		m.errs.Low[k], m.errs.High[k] = -widest, widest
		if len(r) >= 20 {
			slices.Sort(r)
			m.errs.Low[k], m.errs.High[k] = min(quantile(r, 0.1), 0), max(quantile(r, 0.9), 0)
		}
	}
	return nil
}

// Predict surrounds the model's forecast with its spread.
func (m *pointModel) Predict(data *Data, n int, out []Quantiles) error {
	if data.latestKnown(n) < 0 {
		return errNothing
	}
	path := m.path[:len(out)]
	if err := m.point.predict(data, n, path); err != nil {
		return err
	}
	for k, value := range path {
		low, high := -widest, widest
		if k < len(m.errs.Low) {
			low, high = m.errs.Low[k], m.errs.High[k]
		}
		l := toLog(max(value, 0))
		out[k] = Quantiles{fromLog(l + low), value, fromLog(l + high)}.proper()
	}
	return nil
}

// latestKnown returns the latest known of the first n steps, or -1.
func (d *Data) latestKnown(n int) int {
	if n == 0 {
		return -1
	}
	return int(d.last[n-1])
}

// quantile returns one of sorted values, interpolated (type 7 of Hyndman and Fan, "Sample Quantiles in Statistical
// Packages", 1996).
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-2)
	if i < 0 {
		return sorted[0]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// MarshalBinary saves the model and its spread.
func (m *pointModel) MarshalBinary() ([]byte, error) { return save(m.point, m.errs) }

// UnmarshalBinary loads what MarshalBinary saved.
func (m *pointModel) UnmarshalBinary(saved []byte) error { return load(saved, m.point, &m.errs) }
