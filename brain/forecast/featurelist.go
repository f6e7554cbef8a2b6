package forecast

import (
	"math"
	"slices"
)

// The features. "Relative" is the logarithm of (value + 1), less that of the mean of the last 6 steps: 0.1 is about 10 % more.
var features = [...]Feature{
	// The calendar, at the target.
	{"hour", "hours", "time of day", (*moment).clock},
	{"weekday", "days", "day of the week, Monday is 0", func(m *moment) float64 { return float64((m.local.Weekday() + 6) % 7) }},
	{"weekend", "0 or 1", "Saturday or Sunday", func(m *moment) float64 { return flag(weekend(m.local)) }},
	{"business-hours", "0 or 1", "from 9 to 17 h, Monday to Friday, but on holidays", func(m *moment) float64 { return flag(m.Calendar.open(m.local)) }},
	{"month", "months", "month of the year, January is 1", func(m *moment) float64 { return float64(m.local.Month()) }},
	{"day-of-month", "days", "day of the month, from 1 on", func(m *moment) float64 { return float64(m.local.Day()) }},
	{"holiday", "0 or 1", "a day of the calendar's holidays", func(m *moment) float64 { return flag(m.Calendar.holiday(m.local)) }},
	{"minute", "minutes", "minute of the hour", func(m *moment) float64 { return float64(m.local.Minute()) }},
	{"day-sine", "-1 to 1", "sine of the time of day as an angle", func(m *moment) float64 { return math.Sin(m.clock() * math.Pi / 12) }},
	{"day-cosine", "-1 to 1", "cosine of the same", func(m *moment) float64 { return math.Cos(m.clock() * math.Pi / 12) }},
	{"half-day-sine", "-1 to 1", "sine of twice the angle", func(m *moment) float64 { return math.Sin(m.clock() * math.Pi / 6) }},
	{"half-day-cosine", "-1 to 1", "cosine of the same", func(m *moment) float64 { return math.Cos(m.clock() * math.Pi / 6) }},

	// What traffic is, and was a short while ago.
	{"level", "log", "logarithm of the mean of the last 6 steps + 1", func(m *moment) float64 { return m.base }},
	{"lag-0", "relative", "the last value", func(m *moment) float64 { return m.lag(0) }},
	{"lag-1", "relative", "the value 1 step before the last", func(m *moment) float64 { return m.lag(1) }},
	{"lag-2", "relative", "2 steps before", func(m *moment) float64 { return m.lag(2) }},
	{"lag-3", "relative", "3 steps before", func(m *moment) float64 { return m.lag(3) }},
	{"lag-5", "relative", "5 steps before", func(m *moment) float64 { return m.lag(5) }},
	{"lag-8", "relative", "8 steps before", func(m *moment) float64 { return m.lag(8) }},
	{"lag-11", "relative", "11 steps before", func(m *moment) float64 { return m.lag(11) }},
	{"mean-3", "relative", "mean of the last 3 steps", func(m *moment) float64 { return m.past(3) }},
	{"mean-1h", "relative", "mean of the last hour", func(m *moment) float64 { return m.past(m.hour) }},
	{"mean-3h", "relative", "mean of the last 3 hours", func(m *moment) float64 { return m.past(3 * m.hour) }},
	{"mean-24h", "relative", "mean of the last 24 hours", func(m *moment) float64 { return m.past(m.day) }},
	{"mean-7d", "relative", "mean of the last 7 days", func(m *moment) float64 { return m.past(m.week) }},
	{"deviation-6", "log", "standard deviation of the logarithms of the last 6 steps", func(m *moment) float64 { return m.logDeviation(m.n-6, m.n) }},
	{"deviation-1h", "log", "the same of the last hour", func(m *moment) float64 { return m.logDeviation(m.n-m.hour, m.n) }},
	{"deviation-3h", "log", "the same of the last 3 hours", func(m *moment) float64 { return m.logDeviation(m.n-3*m.hour, m.n) }},
	{"slope", "relative", "mean of the last 3 steps, less that of the 3 before", func(m *moment) float64 {
		return m.past(3) - m.level(m.mean(m.n-6, m.n-3))
	}},
	{"slope-1h", "relative", "mean of the last hour, less that of the hour before", func(m *moment) float64 {
		return m.past(m.hour) - m.level(m.mean(m.n-2*m.hour, m.n-m.hour))
	}},

	// What it was at the same time of the day and of the week.
	{"yesterday", "relative", "24 hours before the target", func(m *moment) float64 { return m.seasonal(m.day, 0) }},
	{"yesterday-around", "relative", "the same with 15 minutes on either side, mean", func(m *moment) float64 { return m.seasonal(m.day, m.wide) }},
	{"last-week", "relative", "7 days before the target", func(m *moment) float64 { return m.seasonal(m.week, 0) }},
	{"last-week-around", "relative", "the same with 15 minutes on either side, mean", func(m *moment) float64 { return m.seasonal(m.week, m.wide) }},
	{"change-yesterday", "log", "what yesterday's traffic changed from this time to the target's", func(m *moment) float64 { return m.change(m.day, 1) }},
	{"change-last-week", "log", "the same of last week's", func(m *moment) float64 { return m.change(m.week, 1) }},
	{"change-7d", "log", "the same, mean of the last 7 days", func(m *moment) float64 {
		return mean(each(7, func(k int) float64 { return m.change(m.day, k) }))
	}},
	{"median-7d", "relative", "15 minutes on either side of the target's time of day, median of the last 7 days", func(m *moment) float64 {
		return median(m.days())
	}},
	{"highest-7d", "relative", "the same, the highest of the last 7 days", func(m *moment) float64 { return highest(m.days()) }},
	{"phase", "log", "the target's minute of the hour above the hour around it, mean of the last 24 hours", (*moment).phase},

	// What else the system measures, and what is announced.
	{"backends", "count", "backends that are up, above their mean of the last hour", func(m *moment) float64 {
		return m.signalChange(func(s *System) float64 { return s.Backends })
	}},
	{"flows", "log", "flows in progress, above their mean of the last hour", func(m *moment) float64 {
		return m.signalChange(func(s *System) float64 { return toLog(s.Flows) })
	}},
	{"handshake", "seconds", "mean time of handshakes", func(m *moment) float64 {
		return m.signal(func(s *System) float64 { return s.Handshake })
	}},
	{"retransmissions", "0 to 1", "share of handshakes whose SYN was repeated", func(m *moment) float64 {
		return m.signal(func(s *System) float64 { return s.Retransmissions })
	}},
	{"errors", "0 to 1", "share of new flows that failed", func(m *moment) float64 {
		return m.signal(func(s *System) float64 { return s.Errors })
	}},
	{"event", "log", "what the events at the target are declared to multiply traffic by, less those under way", func(m *moment) float64 {
		return m.expected(m.time) - m.expected(m.Time(m.n-1))
	}},
	{"event-learnt", "log", "the same, as earlier occurrences of these events did", func(m *moment) float64 {
		return m.learnt(m.time, m.n) - m.learnt(m.Time(m.n-1), m.n)
	}},
}

// days are the levels at the target's time of day on the last seven days.
func (m *moment) days() []float64 {
	return each(7, func(k int) float64 {
		return m.around(m.Data.season(m.target, m.n, m.day)-(k-1)*m.day, m.wide) - m.base
	})
}

// median of no values is NaN; it sorts them.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
