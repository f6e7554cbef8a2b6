package forecast

import (
	"math"
	"time"
)

// Event is one occurrence of something that is known to change traffic, such as a campaign.
type Event struct {
	Name   string // the same for every occurrence
	Start  time.Time
	Length time.Duration
	Expect float64 // what traffic is multiplied by, such as 1.4
}

// end returns the first moment after the event.
func (e *Event) end() time.Time { return e.Start.Add(e.Length) }

// covers says that the event is under way at a time.
func (e *Event) covers(t time.Time) bool { return !t.Before(e.Start) && t.Before(e.end()) }

// expected returns the logarithm of what the events of a time multiply traffic by, as declared; 0 without any.
func (d *Data) expected(t time.Time) float64 {
	sum := 0.0
	for i := range d.Events {
		if d.Events[i].covers(t) {
			sum += math.Log(max(d.Events[i].Expect, 1e-3))
		}
	}
	return sum
}

// learnt is expected, with what earlier occurrences that ended within the first n values did in place of what was
// declared, as far as there were any.
func (d *Data) learnt(t time.Time, n int) float64 {
	sum := 0.0
	for i := range d.Events {
		if e := &d.Events[i]; e.covers(t) {
			sum += d.effect(e, n)
		}
	}
	return sum
}

// lift returns the logarithm of what events multiply traffic by at a step beyond the first n, beside the recent mean. Models
// learn and say what traffic would be without it, so that what is planned counts from its first occurrence on.
func (d *Data) lift(n, target int) float64 {
	if len(d.Events) == 0 {
		return 0
	}
	return d.learnt(d.Time(target), n) - d.recentLift(n)
}

// recentLift returns the logarithm of what events multiplied the recent mean by.
func (d *Data) recentLift(n int) float64 {
	if len(d.Events) == 0 {
		return 0
	}
	sum := 0.0
	for i := n - baseSteps; i < n; i++ {
		sum += math.Exp(d.learnt(d.Time(i), n))
	}
	return math.Log(sum / baseSteps)
}

// times returns a value multiplied by what has this logarithm.
func times(value, log float64) float64 {
	if log == 0 {
		return value
	}
	return value * math.Exp(log)
}

// effect returns the mean logarithm of what an event of a name multiplied traffic by, compared with the same time a day
// before each occurrence; what is declared counts as one occurrence more.
func (d *Data) effect(of *Event, n int) float64 {
	sum, count := math.Log(max(of.Expect, 1e-3)), 1.0
	day := d.Steps(Day)
	for i := range d.Events {
		e := &d.Events[i]
		from, to := d.index(e.Start), d.index(e.end())
		if e.Name != of.Name || to > n || from < day {
			continue
		}
		during, before := d.mean(from, to), d.mean(from-day, to-day)
		if !math.IsNaN(during) && !math.IsNaN(before) {
			sum += toLog(during) - toLog(before)
			count++
		}
	}
	return sum / count
}

// index returns the step that a time belongs to, which may lie outside the series.
func (d *Data) index(t time.Time) int {
	return int(math.Floor(float64(t.Sub(d.Start)) / float64(d.Step)))
}
