package health

import (
	"math"
	"time"
)

// average is a mean of samples that come at any time, of which each counts 1/e as much after a span as when it came: an
// exponentially weighted moving average for irregular samples, kept as a weighted sum and the sum of the weights. So a
// sample after a long silence does not count more than one, as it would with a weight that follows the gap alone. The
// zero value has no samples.
type average struct {
	sum, weight float64
	at          time.Time
}

func (a *average) observe(value float64, now time.Time, span time.Duration) {
	a.decay(now, span)
	a.sum += value
	a.weight++
}

func (a *average) decay(now time.Time, span time.Duration) {
	passed := now.Sub(a.at)
	if passed <= 0 {
		return // a sample that comes late counts as if it were new
	}
	keep := math.Exp(-float64(passed) / float64(span))
	a.sum *= keep
	a.weight *= keep
	a.at = now
}

// mean returns the average, as if there had been prior more samples of 0.
func (a *average) mean(prior float64) float64 {
	if a.weight+prior == 0 {
		return 0
	}
	return a.sum / (a.weight + prior)
}

// logMean is the geometric mean of times, by the average of their logarithms. The zero value has none.
type logMean struct{ logs average }

func (m *logMean) observe(d time.Duration, now time.Time, span time.Duration) {
	m.logs.observe(math.Log(max(d, time.Microsecond).Seconds()), now, span)
}

// mean returns 0 without samples.
func (m *logMean) mean() time.Duration {
	if m.logs.weight == 0 {
		return 0
	}
	return time.Duration(math.Exp(m.logs.mean(0)) * float64(time.Second))
}
