package forecast

import (
	"math"
	"slices"
)

// calibrator makes quantiles and a confidence true, by what came of past forecasts for the same number of steps ahead.
//
// A value's score is how far it lay from the median of its forecast, in units of what the model thought the distance to
// its 10 or 90 % to be. Past scores are a sample of the next one (split conformal prediction with a normalised score; Lei
// et al., "Distribution-Free Predictive Inference for Regression", 2018, section 5.2), and say what factors those distances
// need and how probable it is that the value lies within any two bounds. Since traffic changes its ways, the level asked
// for follows how often values lay outside lately (Gibbs and Candès, "Adaptive Conformal Inference Under
// Distribution Shift", 2021, equation 2).
type calibrator struct {
	Scores []float32 // the latest ones, a ring
	Next   int
	Level  float64   // to ask for at either end
	Past   []outcome // a ring of the same order

	every   int // values between two looks at the scores
	sorted  []float32
	waiting int
	curve   []float64 // see recalibrate
}

// outcome is what a confidence was before it was made true, and whether the forecast was within 10 %.
type outcome struct {
	Said  float32
	Right bool
}

// judgement is what a calibrator must know of a forecast to learn from what comes.
type judgement struct {
	median, below, above float64 // logarithms; distances to 10 and 90 %
	low, high            float64 // of the calibrated interval, values
	forecast             float64
	whole                bool // values are whole numbers
	said                 float32
}

const (
	tail       = 0.1 // beyond either end of the interval
	adaptation = 0.01
	asked      = 0.195 // share that is to lie outside the interval in the long run: rather a little less than 2 tail
	scoreCount = 2016  // a week of 5-minute steps
	thinnest   = 0.003 // least distance, of values that did not vary
	doubt      = 20    // past forecasts that a confidence begins to be believed with
	margin     = 0.1   // a forecast is right when the value differs by no more
	curveBins  = 20

	latestOutcomes = 12 // that confidence is lowered by
)

// newCalibrator returns one that reckons anew after so many values.
func newCalibrator(every int) *calibrator {
	return &calibrator{Level: tail, every: max(every, 1)}
}

// apply returns the quantiles as they should be, whole numbers where all values are, the probability that the value will lie within 10 % of the forecast, and what observe
// must be given with the value.
func (c *calibrator) apply(q Quantiles, whole bool) (Quantiles, float64, judgement) {
	j := judgement{forecast: q.P50, median: toLog(q.P50), whole: whole}
	j.below = max(j.median-toLog(q.P10), thinnest)
	j.above = max(toLog(q.P90)-j.median, thinnest)
	lower, upper := c.factors()
	q.P10 = fromLog(max(j.median-lower*j.below, 0))
	q.P90 = fromLog(j.median + upper*j.above)
	q = q.proper()
	if whole {
		q = q.whole()
		j.forecast = q.P50
	}
	j.low, j.high = q.P10, q.P90
	j.said = float32(c.within(&j))
	return q, c.doubted(c.recalibrate(float64(j.said))), j
}

// doubted returns a confidence, lower when the latest forecasts were right less often: they and what is said count as
// many. So it falls within a few values when traffic changes its ways, and all past outcomes still say otherwise.
func (c *calibrator) doubted(confidence float64) float64 {
	n := min(latestOutcomes, len(c.Past))
	right := 0.0
	for i := range n {
		right += flag(c.Past[(c.Next+len(c.Past)-1-i)%len(c.Past)].Right)
	}
	return min(confidence, (right+latestOutcomes*confidence)/float64(n+latestOutcomes))
}

// factors are what the distances must be multiplied by. Without scores a model is believed.
func (c *calibrator) factors() (lower, upper float64) {
	n := float64(len(c.sorted))
	lower, upper = 1, 1
	if n > 0 {
		trust := n / (n + doubt)
		lower += trust * (max(-c.scoreAt(c.Level), 0) - 1)
		upper += trust * (max(c.scoreAt(1-c.Level), 0) - 1)
	}
	return lower, upper
}

// scoreAt returns a quantile of the scores.
func (c *calibrator) scoreAt(q float64) float64 {
	i := int(math.Ceil(q*float64(len(c.sorted)+1))) - 1
	return float64(c.sorted[max(0, min(i, len(c.sorted)-1))])
}

// within returns the share of past scores for which this forecast would be right. What is not known yet counts against it.
func (c *calibrator) within(j *judgement) float64 {
	least, most := j.forecast/(1+margin), j.forecast/(1-margin)
	if j.whole {
		least, most = math.Ceil(least)-0.5, math.Floor(most)+0.5 // scores of whole numbers lie scattered
	}
	low, high := j.score(least), j.score(most)
	from, _ := slices.BinarySearch(c.sorted, low)
	to, found := slices.BinarySearch(c.sorted, high)
	for found && to < len(c.sorted) && c.sorted[to] == high {
		to++
	}
	return float64(to-from) / float64(len(c.sorted)+doubt)
}

// score returns how far a value lies from the median, in distances to 10 or 90 %.
func (j *judgement) score(value float64) float32 {
	by := toLog(value) - j.median
	if by < 0 {
		return float32(by / j.below)
	}
	return float32(by / j.above)
}

// observe learns from the value that came.
func (c *calibrator) observe(j judgement, value float64) {
	score := j.score(value)
	o := outcome{j.said, right(j.forecast, value)}
	if len(c.Scores) < scoreCount {
		c.Scores, c.Past = append(c.Scores, score), append(c.Past, o)
	} else {
		c.Scores[c.Next], c.Past[c.Next] = score, o
		c.Next = (c.Next + 1) % scoreCount
	}
	outside := value < j.low || value > j.high
	c.Level = max(0.001, min(c.Level+adaptation*(asked-flag(outside)), 0.45))
	if c.waiting++; c.waiting >= c.every || len(c.Scores) < 100 {
		c.reckon()
	}
}

// right says that a forecast was within 10 % of the value.
func right(forecast, value float64) bool { return math.Abs(forecast-value) <= margin*value }

// reckon sorts the scores, and finds how often forecasts were right that a confidence was said of: the monotone curve
// nearest to the outcomes (isotonic regression by pooling adjacent violators; Zadrozny and Elkan, KDD 2002). Every bin
// has some outcomes beforehand, as good as was said but no better than all forecasts were: more must be seen to be believed.
func (c *calibrator) reckon() {
	c.waiting = 0
	c.sorted = append(c.sorted[:0], c.Scores...)
	slices.Sort(c.sorted)
	var hits, counts [curveBins]float64
	all := 0.0
	for _, o := range c.Past {
		bin := min(int(o.Said*curveBins), curveBins-1)
		counts[bin]++
		hits[bin] += flag(o.Right)
		all += flag(o.Right)
	}
	for i := range hits {
		counts[i] += doubt
		hits[i] += doubt * min((float64(i)+0.5)/curveBins, all/float64(len(c.Past)))
	}
	c.curve = isotonic(hits[:], counts[:])
}

// isotonic returns the rising sequence nearest to hits/counts in weighted squares.
func isotonic(hits, counts []float64) []float64 {
	type pool struct {
		hits, count float64
		bins        int
	}
	var pools []pool
	for i := range hits {
		p := pool{hits[i], counts[i], 1}
		for len(pools) > 0 && pools[len(pools)-1].hits*p.count >= p.hits*pools[len(pools)-1].count {
			q := pools[len(pools)-1]
			p = pool{p.hits + q.hits, p.count + q.count, p.bins + q.bins}
			pools = pools[:len(pools)-1]
		}
		pools = append(pools, p)
	}
	var curve []float64
	for _, p := range pools {
		for range p.bins {
			curve = append(curve, p.hits/p.count)
		}
	}
	return curve
}

// recalibrate returns how often forecasts were right of which this was said, interpolated between the bins' middles.
func (c *calibrator) recalibrate(said float64) float64 {
	if c.curve == nil {
		return 0
	}
	at := said*curveBins - 0.5
	i := int(math.Floor(at))
	switch {
	case i < 0:
		return c.curve[0] * said * 2 * curveBins
	case i >= curveBins-1:
		return c.curve[curveBins-1]
	}
	return c.curve[i] + (at-float64(i))*(c.curve[i+1]-c.curve[i])
}
