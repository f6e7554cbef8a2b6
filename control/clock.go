package control

import "time"

// Calendar is the time that history, forecasts and scaling go by. The zero value is the wall clock; another one has days pass in minutes, for
// demonstrations.
type Calendar struct {
	At    time.Time // what time it is when the daemon starts, zero is the wall clock's
	Speed float64   // how many times as fast as the wall clock it runs; 0 is the wall clock
}

// clock is a Calendar since it began.
type clock struct {
	Calendar
	began time.Time
}

func newClock(c Calendar) clock {
	began := time.Now()
	if c.At.IsZero() {
		c.At = began
	}
	return clock{c, began}
}

// now returns the calendar's time.
func (c clock) now() time.Time {
	if c.Speed == 0 {
		return time.Now()
	}
	return c.At.Add(time.Duration(c.speed() * float64(time.Since(c.began))))
}

// steady returns the calendar's time, as the wall clock has it, and a steady one since it began.
func (c clock) steady() (wall time.Time, steady time.Duration) {
	now := time.Now()
	if c.Speed == 0 {
		return now.Round(0), now.Sub(c.began) // Round leaves only the wall clock
	}
	steady = c.calendar(now.Sub(c.began))
	return c.At.Add(steady), steady
}

func (c clock) speed() float64 {
	if c.Speed == 0 {
		return 1
	}
	return c.Speed
}

// real returns how long to wait until some time of the calendar has passed.
func (c clock) real(d time.Duration) time.Duration { return time.Duration(float64(d) / c.speed()) }

// calendar is the opposite of real.
func (c clock) calendar(d time.Duration) time.Duration { return time.Duration(float64(d) * c.speed()) }
