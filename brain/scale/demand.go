package scale

import (
	"context"
	"math"
	"slices"
	"sort"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/forecast/trees"
)

// Demand forecasts how many requests a service will have in one of its next steps, as a distribution: whoever buys capacity asks
// for an upper quantile, which bursts decide and medians know nothing of.
//
// Boosted trees on the features of brain/forecast say the median of the logarithm and how far values lie from it, and how far they
// lay in those units in the past is the distribution's shape (conformal prediction with a normalised score; Lei et al.,
// "Distribution-Free Predictive Inference for Regression", 2018, section 5.2). It is not safe for concurrent use.
type Demand struct {
	data *forecast.Data
	lead int
	seed uint64

	middle, width *trees.Ensemble
	pending       []moment // of the steps to come, a ring by their number
	scores        []float32
	next          int
	shape         []float32 // the scores, sorted
	unsorted      int
	row           []float32
}

// moment is what was said of a step.
type moment struct {
	step          int
	middle, width float64
}

// Distribution is that of the requests in a step.
type Distribution struct {
	middle, width float64
	shape         []float32
}

const (
	// latestRows are learnt from, 18 days of minutes, and fewestRows at least.
	latestRows, fewestRows = 26_000, 500
	// scoreCount past values are the shape, two weeks of minutes; with fewer than fewestScores there is none.
	scoreCount, fewestScores = 20_000, 300
	// resort is after how many scores the shape is made anew.
	resort = 360
	// narrowest is the least distance, of values that did not vary, as a logarithm.
	narrowest = 0.02
)

// NewDemand returns one of the step that is so many steps after the last value, 1 or more, that knows nothing before Fit. The data is
// the caller's, who tells each value with Append first.
func NewDemand(data *forecast.Data, lead int, seed uint64) *Demand {
	return &Demand{data: data, lead: lead, seed: seed, pending: make([]moment, lead+1), row: make([]float32, forecast.FeatureCount)}
}

// Successor returns one of other data, such as the latest part of the same series, that has learnt what d has, to be fitted anew.
func (d *Demand) Successor(data *forecast.Data) *Demand {
	s := NewDemand(data, d.lead, d.seed)
	s.middle, s.width, s.scores, s.next = d.middle, d.width, slices.Clone(d.scores), d.next
	s.sort()
	return s
}

// Observe learns the shape from the data's last value, and forecasts anew. It is to be called after each Append to the data.
func (d *Demand) Observe() {
	n := len(d.data.Values)
	value := d.data.Values[n-1]
	if m := d.pending[(n-1)%len(d.pending)]; m.step == n-1 {
		d.judge(m, value)
	}
	step := n - 1 + d.lead
	d.pending[step%len(d.pending)] = d.say(n)
}

// say returns what the models say of the step after the first n values, with a width of 0 before Fit.
func (d *Demand) say(n int) moment {
	m := moment{step: n - 1 + d.lead}
	if d.middle == nil {
		return m
	}
	level := d.data.Row(n, d.lead, d.row)
	if math.IsNaN(level) {
		return m
	}
	m.middle = level + float64(d.middle.Predict(d.row))
	m.width = max(float64(d.width.Predict(d.row)), narrowest)
	return m
}

// judge learns the shape from what came of a step, as far as something was said of it and it is known.
func (d *Demand) judge(m moment, value float64) {
	if m.width == 0 || math.IsNaN(value) {
		return
	}
	s := float32((math.Log1p(value) - m.middle) / m.width)
	if len(d.scores) < scoreCount {
		d.scores = append(d.scores, s)
	} else {
		d.scores[d.next] = s
		d.next = (d.next + 1) % scoreCount
	}
	if d.unsorted++; d.unsorted >= resort {
		d.sort()
	}
}

// sort makes the shape anew; those that were given away do not change.
func (d *Demand) sort() {
	d.unsorted = 0
	d.shape = slices.Clone(d.scores)
	slices.Sort(d.shape)
}

// Ahead returns the distribution of the step that is lead steps after the last value, false when none is known.
func (d *Demand) Ahead() (Distribution, bool) {
	n := len(d.data.Values)
	m := d.pending[(n-1+d.lead)%len(d.pending)]
	if m.step != n-1+d.lead || m.width == 0 || len(d.shape) < fewestScores {
		return Distribution{}, false
	}
	return Distribution{m.middle, m.width, d.shape}, true
}

// Fit learns from the data. The first time the last quarter is kept out at first, for the shape. It returns
// forecast.ErrTooShort, or soon after ctx is done its error; then all is as before.
func (d *Demand) Fit(ctx context.Context) error {
	n := len(d.data.Values)
	if d.middle == nil {
		if err := d.fit(ctx, n-n/4); err != nil {
			return err
		}
		for i := n - n/4; i+d.lead <= n; i++ {
			d.judge(d.say(i), d.data.Values[i-1+d.lead])
		}
	}
	if err := d.fit(ctx, n); err != nil {
		return err
	}
	d.sort()
	return nil
}

// fit learns from the first n values.
func (d *Demand) fit(ctx context.Context, n int) error {
	var x []float32
	var y []float32
	for i := max(n-d.lead-latestRows, 1); i+d.lead <= n; i++ {
		value := d.data.Values[i-1+d.lead]
		if level := d.data.Row(i, d.lead, d.row); !math.IsNaN(value) && !math.IsNaN(level) {
			x, y = append(x, d.row...), append(y, float32(math.Log1p(value)-level))
		}
	}
	if len(y) < fewestRows {
		return forecast.ErrTooShort
	}
	medians := trees.Boosting{Rounds: 100, Leaves: 16, MinLeaf: max(20, min(len(y)/400, 60)), Rate: 0.08, Loss: trees.Absolute, Seed: d.seed}
	widths := medians
	widths.Rounds, widths.Leaves = 60, 8
	middle, width, err := medians.FitSpread(ctx, trees.Matrix{Columns: forecast.FeatureCount, Data: x}, y, widths)
	if err != nil {
		return err
	}
	d.middle, d.width = middle, width
	return nil
}

// Quantile returns what the requests stay below with a probability p, 0 to 1.
func (d Distribution) Quantile(p float64) float64 {
	i := int(math.Ceil(p*float64(len(d.shape)+1))) - 1
	return max(math.Expm1(d.middle+d.width*float64(d.shape[max(0, min(i, len(d.shape)-1))])), 0)
}

// Above returns the probability that there are more requests than that.
func (d Distribution) Above(requests float64) float64 {
	score := float32((math.Log1p(requests) - d.middle) / d.width)
	above := len(d.shape) - sort.Search(len(d.shape), func(i int) bool { return d.shape[i] > score })
	return float64(above) / float64(len(d.shape))
}
