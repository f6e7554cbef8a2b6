package forecast

import (
	"math"
	"time"
)

// Feature is one of the numbers that models forecast from. Definition and Unit are what docs/forecast.md shows.
type Feature struct {
	Name, Unit, Definition string

	value func(*moment) float64
}

// Features returns all of them, in the order of a row.
func Features() []Feature { return features[:] }

// FeatureCount is their number.
const FeatureCount = len(features)

// moment is what is known of a series when its first n values are, and which step is to be forecast.
type moment struct {
	*Data
	n, h            int // h is from 1 on
	target          int // the step to be forecast, n-1+h
	time, local     time.Time
	base            float64 // logarithm of the recent mean, which all levels are relative to
	hour, day, week int     // in steps
	wide            int     // steps on either side of a time of day that count as the same
}

// baseSteps is how many steps the recent mean is of. Forecasts are relative to it, and not to the last value, whose
// noise would be in every one of them: that is worth 0.005 to 0.008 of skill on the NASA trace.
const baseSteps = 6

func (d *Data) moment(n, h int) moment {
	m := moment{Data: d, n: n, h: h, target: n - 1 + h}
	m.time = d.Time(m.target)
	m.local = d.Calendar.local(m.time)
	m.base = toLog(d.recent(n, baseSteps))
	m.hour, m.day, m.week = d.Steps(time.Hour), d.Steps(Day), d.Steps(7*Day)
	m.wide = d.Steps(15 * time.Minute)
	return m
}

// row fills in the features for the step h after the first n values; NaN is unknown.
func (m *moment) row(out []float32) {
	for i := range features {
		out[i] = float32(features[i].value(m))
	}
}

// Row fills in the features (FeatureCount of them, NaN is unknown) of the step h after the first n values, h from 1 on. It returns what
// they are relative to: the logarithm of (the mean of the last 6 steps + 1), with what events multiply that by at the step.
func (d *Data) Row(n, h int, row []float32) (level float64) {
	m := d.moment(n, h)
	m.row(row)
	return m.base + d.lift(n, m.target)
}

// clock returns the time of day of the target, in hours.
func (m *moment) clock() float64 {
	return float64(m.local.Hour()) + float64(m.local.Minute())/60 + float64(m.local.Second())/3600
}

// level returns a value as a logarithm relative to the recent mean.
func (m *moment) level(value float64) float64 { return toLog(value) - m.base }

// lag is the value of so many steps before the last one.
func (m *moment) lag(k int) float64 { return m.level(m.at(m.n-1-k, m.n)) }

// past is the mean of the last steps.
func (m *moment) past(steps int) float64 { return m.level(m.mean(m.n-steps, m.n)) }

// around is the logarithm of the mean of step i and so many on either side, as far as they are known now.
func (m *moment) around(i, side int) float64 {
	return toLog(m.mean(i-side, min(i+side+1, m.n)))
}

// seasonal is the level of traffic around the target's time, one season before.
func (m *moment) seasonal(season, side int) float64 {
	return m.around(m.Data.season(m.target, m.n, season), side) - m.base
}

// change is what traffic did so many whole seasons ago from this time of the season to the target's.
func (m *moment) change(season, back int) float64 {
	then := m.n - back*season
	return m.around(m.target-back*season, m.wide) - toLog(m.mean(then-baseSteps, then))
}

// each returns f for 1 to k, without what is NaN.
func each(k int, f func(int) float64) (values []float64) {
	for i := 1; i <= k; i++ {
		if v := f(i); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

// phase is by how much traffic at this minute of the hour exceeded the hour around it, on average over a day.
func (m *moment) phase() float64 {
	return mean(each(24, func(k int) float64 {
		i := m.target - k*m.hour
		if i >= m.n || i < 0 {
			return math.NaN()
		}
		return m.around(i, 0) - m.around(i, m.hour/2)
	}))
}

// signal is a system signal's latest value, and signalChange what it is above its mean of the last hour.
func (m *moment) signal(column func(*System) float64) float64 { return m.system(m.n-1, m.n, column) }

func (m *moment) signalChange(column func(*System) float64) float64 {
	hour := each(m.hour, func(k int) float64 { return m.system(m.n-k, m.n, column) })
	return m.signal(column) - mean(hour)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// mean of no values is NaN.
func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func highest(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	top := values[0]
	for _, v := range values {
		top = max(top, v)
	}
	return top
}
