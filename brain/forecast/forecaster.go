package forecast

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Forecaster forecasts one series with an ensemble of models, and learns from each value how far every one of them is to
// be trusted. It is not safe for concurrent use.
type Forecaster struct {
	options Options
	data    *Data
	members []*member
	knots   []*knot
	pending []outlook // the last Horizon+1 outlooks, a ring by the number of values known
	largest float64
}

// member is one model of the ensemble.
type member struct {
	Name    string
	Model   Model
	Fitted  int           // number of values when it was fitted, 0 before
	FitTime time.Duration // of the last fit
	Problem string        // why it was not fitted, or did not forecast

	forecasts   []Quantiles
	predictTime time.Duration // of all forecasts
	predicted   int
	slow        int  // forecasts in a row that took too long
	sound       bool // forecasts are worth something
}

// knot is a number of steps ahead whose forecasts are judged.
type knot struct {
	steps       int
	record      *record
	weights     []float64
	age         int // values since the weights were reckoned
	calibrator  *calibrator
	calibrators []*calibrator // of each model by itself, in backtests only
}

// Forecast is one step of a forecast.
type Forecast struct {
	Quantiles
	Confidence float64 `json:"confidence"` // probability that the value lies within 10 % of P50, from past forecasts
}

// outlook is what was forecast after some value for each knot, until that is known.
type outlook struct {
	known  int         // number of values known then, 0 is none
	points [][]float64 // P50 by knot and model, NaN where there was none
	judged []judgement // by knot
	each   [][]judged  // by knot and model, in backtests
	path   []Forecast
}

// judged is a model's own calibrated forecast, in backtests.
type judged struct {
	Forecast
	judgement
}

// fallbacks forecast when no model that has a weight does.
var fallbacks = []string{LSTM, ARIMA, MovingAverage, Naive}

// mostSlow is how many forecasts in a row may take too long.
const mostSlow = 3

// stale is how long a model may be used without another fit.
const stale = 7 * Day

// NewForecaster returns a forecaster of data, which it takes over. Until Fit, only baselines forecast.
func NewForecaster(data *Data, options Options) (*Forecaster, error) {
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	f := &Forecaster{options: options, data: data, members: options.models(), pending: make([]outlook, options.Horizon+1)}
	for _, m := range f.members {
		m.forecasts = make([]Quantiles, options.Horizon)
	}
	for _, steps := range options.Knots {
		f.knots = append(f.knots, &knot{steps: steps, record: newRecord(len(f.members)), calibrator: newCalibrator(data.Steps(time.Hour))})
	}
	for _, v := range data.Values {
		if v > f.largest {
			f.largest = v
		}
	}
	return f, nil
}

// Fit has all models learn from the data so far. A model that has too little to learn from is no error; what else went
// wrong with models is, and they go on as they were.
func (f *Forecaster) Fit(ctx context.Context) error {
	var problems []error
	for _, m := range f.members {
		if err := m.fit(ctx, f.data); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (m *member) fit(ctx context.Context, data *Data) error {
	began := time.Now()
	err := m.Model.Fit(ctx, data)
	m.FitTime = time.Since(began)
	if err == nil {
		m.Fitted, m.Problem, m.slow = len(data.Values), "", 0
		return nil
	}
	m.Problem = err.Error()
	if errors.Is(err, ErrTooShort) {
		return nil
	}
	return fmt.Errorf("model %s: %w", m.Name, err)
}

// Append adds the value of the next step, judges the forecasts that were made of it, and makes new ones.
func (f *Forecaster) Append(value float64) {
	f.data.Append(value)
	if !math.IsNaN(value) {
		f.largest = max(f.largest, value)
		f.judge(len(f.data.Values), value)
	}
	f.look()
}

// judge compares what was forecast of the last of n values with it.
func (f *Forecaster) judge(n int, value float64) {
	for i, k := range f.knots {
		o := &f.pending[(n-k.steps+len(f.pending))%len(f.pending)]
		if n-k.steps <= 0 || o.known != n-k.steps {
			continue
		}
		errors := make([]float64, len(f.members))
		for m := range errors {
			errors[m] = math.Abs(o.points[i][m] - value)
		}
		k.record.observe(errors, f.data.Steps(6*time.Hour))
		if k.age++; k.age >= f.data.Steps(time.Hour) || k.weights == nil {
			k.weights, k.age = k.record.weights(), 0
		}
		k.calibrator.observe(o.judged[i], value)
		for m, c := range k.calibrators {
			if !math.IsNaN(o.points[i][m]) {
				c.observe(o.each[i][m].judgement, value)
			}
		}
	}
}

// look makes the forecasts that follow from all values.
func (f *Forecaster) look() {
	n := len(f.data.Values)
	for _, m := range f.members {
		m.look(f.data, n, f.largest, f.options.Patience)
	}
	o := outlook{known: n, path: make([]Forecast, f.options.Horizon)}
	step := 0
	var factors []factor
	var calibrated []Forecast
	for _, k := range f.knots {
		points := make([]float64, len(f.members))
		for i, m := range f.members {
			points[i] = math.NaN()
			if m.sound {
				points[i] = m.forecasts[k.steps-1].P50
			}
		}
		o.points = append(o.points, points)
		for ; step < k.steps; step++ {
			o.path[step].Quantiles = f.blend(k, step)
		}
		raw := o.path[k.steps-1].Quantiles
		q, confidence, j := k.calibrator.apply(raw, !f.data.parts)
		q = f.bounded(q)
		o.judged = append(o.judged, j)
		factors = append(factors, factorOf(raw, q, confidence))
		calibrated = append(calibrated, Forecast{q, confidence})
		if k.calibrators != nil {
			o.each = append(o.each, f.lookEach(k))
		}
	}
	f.calibratePath(o.path, factors)
	for i, k := range f.knots {
		o.path[k.steps-1] = calibrated[i]
	}
	f.pending[n%len(f.pending)] = o
}

// look has one model forecast, and sees whether that is sound.
func (m *member) look(data *Data, n int, largest float64, patience time.Duration) {
	m.sound = false
	baseline := slices.Contains(Baselines(), m.Name)
	if m.slow >= mostSlow && !baseline {
		m.Problem = fmt.Sprintf("a forecast took longer than %s, %d times in a row", patience, mostSlow)
		return
	}
	defer func(began time.Time) { m.took(time.Since(began), patience) }(time.Now())
	if !baseline && (m.Fitted == 0 || n-m.Fitted > data.Steps(stale)) {
		return
	}
	if err := m.Model.Predict(data, n, m.forecasts); err != nil {
		m.Problem = err.Error()
		return
	}
	m.sound = true
	for _, q := range m.forecasts {
		m.sound = m.sound && sound(q, largest)
	}
	if !m.sound {
		m.Problem = "its forecast diverged"
	}
}

// took notes how long a forecast took.
func (m *member) took(d, patience time.Duration) {
	m.predictTime += d
	m.predicted++
	if patience > 0 && d > patience {
		m.slow++
	} else {
		m.slow = 0
	}
}

// lookEach calibrates each model's forecast by itself.
func (f *Forecaster) lookEach(k *knot) []judged {
	each := make([]judged, len(f.members))
	for i, m := range f.members {
		if m.sound {
			q, confidence, j := k.calibrators[i].apply(m.forecasts[k.steps-1], !f.data.parts)
			each[i] = judged{Forecast{q, confidence}, j}
		}
	}
	return each
}

// blend returns the models' forecasts of a step, weighted: the median of the medians' mean, and the distances of the
// other quantiles as the mean of their logarithms.
func (f *Forecaster) blend(k *knot, step int) Quantiles {
	var sum, median, below, above float64
	for i, m := range f.members {
		if k.weights == nil || k.weights[i] == 0 || !m.sound {
			continue
		}
		w, q := k.weights[i], m.forecasts[step]
		sum += w
		median += w * q.P50
		below += w * (toLog(q.P50) - toLog(q.P10))
		above += w * (toLog(q.P90) - toLog(q.P50))
	}
	if sum == 0 {
		return f.fallback(step)
	}
	l := toLog(median / sum)
	return Quantiles{fromLog(l - below/sum), median / sum, fromLog(l + above/sum)}.proper()
}

// bounded keeps the upper end from what no forecast may be, see sound. After values that did not vary the distances are tiny
// that calibration has factors of.
func (f *Forecaster) bounded(q Quantiles) Quantiles {
	q.P90 = max(min(q.P90, absurd*(f.largest+1)), q.P50)
	return q
}

// fallback returns the forecast of the first model that can tell; without any value it is 0.
func (f *Forecaster) fallback(step int) Quantiles {
	for _, name := range fallbacks {
		for _, m := range f.members {
			if m.Name == name && m.sound {
				return m.forecasts[step]
			}
		}
	}
	return Quantiles{}
}

// factor is what calibration did to the distances of a knot's quantiles, and its confidence.
type factor struct{ below, above, confidence float64 }

func factorOf(raw, calibrated Quantiles, confidence float64) factor {
	l := toLog(raw.P50)
	return factor{
		(l - toLog(calibrated.P10)) / max(l-toLog(raw.P10), thinnest),
		(toLog(calibrated.P90) - l) / max(toLog(raw.P90)-l, thinnest),
		confidence,
	}
}

// calibratePath applies to each step what was found for the knots on either side of it.
func (f *Forecaster) calibratePath(path []Forecast, factors []factor) {
	knot := 0
	for step := range path {
		for f.knots[knot].steps < step+1 {
			knot++
		}
		x := factors[knot]
		if before := max(knot-1, 0); before < knot {
			from, to := f.knots[before].steps, f.knots[knot].steps
			part := float64(step+1-from) / float64(to-from)
			y := factors[before]
			x = factor{y.below + part*(x.below-y.below), y.above + part*(x.above-y.above), y.confidence + part*(x.confidence-y.confidence)}
		}
		q := &path[step].Quantiles
		l := toLog(q.P50)
		q.P10 = fromLog(max(l-max(x.below, 0)*max(l-toLog(q.P10), thinnest), 0))
		q.P90 = fromLog(l + max(x.above, 0)*max(toLog(q.P90)-l, thinnest))
		*q = f.bounded(q.proper())
		if !f.data.parts {
			*q = q.whole()
		}
		path[step].Confidence = max(0, min(x.confidence, 1))
	}
}

// Forecast returns the forecast of the steps after the last value; the first one is of the next step.
func (f *Forecaster) Forecast() []Forecast {
	n := len(f.data.Values)
	o := f.pending[n%len(f.pending)]
	if o.known != n || n == 0 {
		return make([]Forecast, f.options.Horizon)
	}
	return slices.Clone(o.path)
}
