package forecast

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Data is all that forecasts may follow from: a series that grows, what else was measured, the calendar and the events.
// It keeps sums from the beginning on, so that the mean over any span costs the same.
type Data struct {
	Series
	Calendar Calendar
	Events   []Event
	// System has what else was measured of each step, NaN where it was not; by the end it may be shorter than the series.
	System []System

	sums     []total      // from the beginning on
	last     []int32      // the latest step up to each one whose value is known, -1 before the first
	excluded map[int]bool // steps that are not learnt from
	parts    bool         // a value is no whole number
}

// System is what the dataplane and health see beside new flows, for one step. NaN is unknown.
type System struct {
	Backends        float64 // that are up, on average
	Flows           float64 // in progress, on average
	Handshake       float64 // mean time of handshakes, seconds
	Retransmissions float64 // share of handshakes whose SYN was repeated, 0 to 1
	Errors          float64 // share of new flows that failed, 0 to 1
}

// total is of some values that are known: how many, their sum, that of their logarithms, and of the squares of those.
type total struct{ count, sum, logs, squares float64 }

func (t total) minus(o total) total {
	return total{t.count - o.count, t.sum - o.sum, t.logs - o.logs, t.squares - o.squares}
}

// NewData returns data with a series, which it takes over, an empty calendar and no events.
func NewData(series Series) *Data {
	d := &Data{Series: Series{Start: series.Start, Step: series.Step}}
	for _, v := range series.Values {
		d.Append(v)
	}
	return d
}

// Append adds the value of the next step.
func (d *Data) Append(value float64) {
	n := len(d.Values)
	d.Values = append(d.Values, value)
	var now total
	last := int32(-1)
	if n > 0 {
		now, last = d.sums[n-1], d.last[n-1]
	}
	if !math.IsNaN(value) {
		last = int32(n)
		l := toLog(value)
		d.parts = d.parts || value != math.Trunc(value)
		now = total{now.count + 1, now.sum + value, now.logs + l, now.squares + l*l}
	}
	d.sums = append(d.sums, now)
	d.last = append(d.last, last)
}

// toLog is the scale on which models work, where factors are differences. Values are counts, so that 1 more keeps
// zero finite and changes nothing else.
func toLog(value float64) float64 { return math.Log1p(value) }

func fromLog(l float64) float64 { return math.Expm1(l) }

// Snapshot returns the data as they are now, which Append does not change.
func (d *Data) Snapshot() *Data {
	n := len(d.Values)
	s := *d
	s.Values, s.sums, s.last = d.Values[:n:n], d.sums[:n:n], d.last[:n:n]
	s.System = d.System[:len(d.System):len(d.System)]
	s.Events, s.excluded = slices.Clone(d.Events), maps.Clone(d.excluded)
	return &s
}

// Exclude keeps a step out of what is learnt, such as an anomaly, and Include takes it in again.
func (d *Data) Exclude(step int) {
	if d.excluded == nil {
		d.excluded = map[int]bool{}
	}
	d.excluded[step] = true
}

// Include has a step learnt from that was excluded, such as an anomaly that is confirmed to be how traffic is now.
func (d *Data) Include(step int) { delete(d.excluded, step) }

// Excluded returns the steps that are not learnt from, in order.
func (d *Data) Excluded() []int { return slices.Sorted(maps.Keys(d.excluded)) }

// Tail returns the last so many steps as data of their own, and how many were dropped.
func (d *Data) Tail(steps int) (tail *Data, dropped int) {
	dropped = max(len(d.Values)-steps, 0)
	tail = NewData(Series{d.Time(dropped), d.Step, d.Values[dropped:]})
	tail.Calendar, tail.Events = d.Calendar, d.Events
	tail.System = slices.Clone(d.System[min(dropped, len(d.System)):])
	for step := range d.excluded {
		if step >= dropped {
			tail.Exclude(step - dropped)
		}
	}
	return tail, dropped
}

// lesson returns the value of a step as models are to learn it, NaN when it is not known or excluded.
func (d *Data) lesson(step int) float64 {
	if d.excluded[step] {
		return math.NaN()
	}
	return d.Values[step]
}

// over returns totals of the values from step i to before step j.
func (d *Data) over(i, j int) total {
	i, j = max(i, 0), min(j, len(d.Values))
	if j <= i {
		return total{}
	}
	t := d.sums[j-1]
	if i > 0 {
		t = t.minus(d.sums[i-1])
	}
	return t
}

// mean returns the mean of the values that are known from step i to before step j, NaN without any.
func (d *Data) mean(i, j int) float64 {
	t := d.over(i, j)
	if t.count < 0.5 {
		return math.NaN()
	}
	return max(t.sum/t.count, 0)
}

// logDeviation returns the standard deviation of the values' logarithms, NaN when fewer than two are known.
func (d *Data) logDeviation(i, j int) float64 {
	t := d.over(i, j)
	if t.count < 1.5 {
		return math.NaN()
	}
	mean := t.logs / t.count
	return math.Sqrt(max(t.squares/t.count-mean*mean, 0))
}

// at returns the value of a step, NaN when it is not known or not among the first n.
func (d *Data) at(i, n int) float64 {
	if i < 0 || i >= n {
		return math.NaN()
	}
	return d.Values[i]
}

// latest returns the latest value known among the first n, and false when none is.
func (d *Data) latest(n int) (float64, bool) {
	if d.latestKnown(n) < 0 {
		return 0, false
	}
	return d.Values[d.last[n-1]], true
}

// recent returns the mean of the last so many steps, of what is known before when those are missing, and 0 when nothing is.
func (d *Data) recent(n, steps int) float64 {
	if m := d.mean(n-steps, n); !math.IsNaN(m) {
		return m
	}
	if d.latestKnown(n) < 0 {
		return 0
	}
	end := d.latestKnown(n) + 1
	return d.mean(end-steps, end)
}

// system returns one column's value of a step, NaN when it is not known or not among the first n.
func (d *Data) system(i, n int, column func(*System) float64) float64 {
	if i < 0 || i >= min(n, len(d.System)) {
		return math.NaN()
	}
	return column(&d.System[i])
}

// Day is the season of most models.
const Day = 24 * time.Hour

// season returns the latest step among the first n that lies whole days (or weeks, as the season is) before step i.
func (d *Data) season(i, n, season int) int {
	back := (i - n + season) / season // how many seasons, at least one
	return i - max(back, 1)*season
}
