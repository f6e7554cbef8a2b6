package forecast

import (
	"context"
	"math"
)

// holtWinters smooths level, trend and the season of a day exponentially (Hyndman and Athanasopoulos, "Forecasting:
// Principles and Practice", 3rd edition, section 8.3), with a damped trend. Whether the season is added or multiplied, or
// there is none, is what would have forecast the past best.
type holtWinters struct {
	Kind   seasonKind
	Rates  smoothing
	Season int
	First  smoothed // before the first value learnt from
	Begin  int      // its step

	now smoothed
	at  int // the step that now is before
}

type seasonKind int

const (
	noSeason seasonKind = iota
	additive
	multiplicative
)

// smoothing are the rates by which parts follow the values, and the damping of the trend: all from 0 to 1.
type smoothing struct{ Level, Trend, Season, Damping float64 }

// smoothed is the state: Seasons[i] is of the steps that are i after a whole number of seasons since the first one.
type smoothed struct {
	Level, Trend float64
	Seasons      []float64
}

const (
	smoothedDays = 28 // of the past that parameters are chosen on
	smoothingTry = 160
)

// fit chooses the kind and the rates with the least squared error of one step.
func (m *holtWinters) fit(ctx context.Context, data *Data) error {
	n := len(data.Values)
	season := data.Steps(Day)
	begin := max(n-smoothedDays*season, 0)
	kinds := []seasonKind{noSeason}
	if n-begin >= 2*season {
		kinds = append(kinds, additive, multiplicative)
	}
	if n-begin < 10 {
		return ErrTooShort
	}
	best := math.Inf(1)
	for _, kind := range kinds {
		candidate := holtWinters{Kind: kind, Season: season, Begin: begin, First: initial(data, kind, begin, season)}
		loss := func(x []float64) float64 {
			candidate.Rates = smoothingOf(x)
			return candidate.loss(data)
		}
		x, err := minimise(ctx, loss, []float64{0, -4, -2, 3}, smoothingTry)
		if err != nil {
			return err
		}
		if l := loss(x); l < best {
			best, *m = l, candidate
		}
	}
	if math.IsInf(best, 1) {
		return ErrTooShort
	}
	return nil
}

// smoothingOf maps any numbers to rates. The damping is from 0.8 to 1, as is usual: less is no trend.
func smoothingOf(x []float64) smoothing {
	unit := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	return smoothing{unit(x[0]), unit(x[1]), unit(x[2]), 0.8 + 0.2*unit(x[3])}
}

// initial returns the state before step begin, by the means of the first two seasons.
func initial(data *Data, kind seasonKind, begin, season int) smoothed {
	if kind == noSeason {
		return smoothed{Level: orZero(data.mean(begin, begin+10))}
	}
	first, second := orZero(data.mean(begin, begin+season)), orZero(data.mean(begin+season, begin+2*season))
	s := smoothed{first, (second - first) / float64(season), make([]float64, season)}
	for i := range s.Seasons {
		level := []float64{first, second}
		var parts []float64
		for k := range level {
			v := data.at(begin+i+k*season, len(data.Values))
			if kind == multiplicative {
				v /= max(level[k], 1e-9)
			} else {
				v -= level[k]
			}
			if !math.IsNaN(v) {
				parts = append(parts, v)
			}
		}
		s.Seasons[i] = flag(kind == multiplicative)
		if len(parts) > 0 {
			s.Seasons[i] = mean(parts)
		}
	}
	return s
}

func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// loss returns the sum of squared errors of one step.
func (m *holtWinters) loss(data *Data) float64 {
	m.restart()
	sum := 0.0
	for m.at < len(data.Values) {
		value := data.lesson(m.at)
		if e := value - m.ahead(1); !math.IsNaN(value) {
			sum += e * e
		}
		m.follow(value)
	}
	return sum
}

func (m *holtWinters) restart() {
	m.now = smoothed{m.First.Level, m.First.Trend, append(m.now.Seasons[:0], m.First.Seasons...)}
	m.at = m.Begin
}

// part returns where the season of a step is kept.
func (m *holtWinters) part(step int) int { return (step - m.Begin) % m.Season }

// ahead forecasts the step h after those that are known.
func (m *holtWinters) ahead(h int) float64 {
	level := m.now.Level + m.now.Trend*damped(m.Rates.Damping, h)
	switch m.Kind {
	case additive:
		return level + m.now.Seasons[m.part(m.at+h-1)]
	case multiplicative:
		return level * m.now.Seasons[m.part(m.at+h-1)]
	}
	return level
}

// damped is the sum of the first h powers of a damping.
func damped(damping float64, h int) float64 {
	if damping > 0.9999 {
		return float64(h)
	}
	return damping * (1 - math.Pow(damping, float64(h))) / (1 - damping)
}

// follow takes in the value of the next step; a value that is not known leaves the trend to go on.
func (m *holtWinters) follow(value float64) {
	r, s := m.Rates, &m.now
	trend := r.Damping * s.Trend
	level := s.Level + trend
	after := level
	if !math.IsNaN(value) {
		after = m.followLevel(value, level)
	}
	s.Trend = r.Trend*(after-s.Level) + (1-r.Trend)*trend
	s.Level = after
	m.at++
}

// followLevel returns the level after a value, of which without it was expected to be before, and takes in the season.
func (m *holtWinters) followLevel(value, before float64) float64 {
	r := m.Rates
	if m.Kind == noSeason {
		return r.Level*value + (1-r.Level)*before
	}
	season := &m.now.Seasons[m.part(m.at)]
	was := *season
	if m.Kind == additive {
		*season = r.Season*(value-before) + (1-r.Season)*was
		return r.Level*(value-was) + (1-r.Level)*before
	}
	if before > 0 {
		*season = r.Season*value/before + (1-r.Season)*was
	}
	if was <= 0 {
		return before // a season without traffic says nothing of the level
	}
	return r.Level*value/was + (1-r.Level)*before
}

// predict follows the values up to n, from where it was when that is before.
func (m *holtWinters) predict(data *Data, n int, out []float64) error {
	if m.Season == 0 || m.Begin < 0 || n < m.Begin {
		return ErrTooShort
	}
	if m.at > n || m.at <= m.Begin {
		m.restart()
	}
	for m.at < n {
		m.follow(data.lesson(m.at))
	}
	for k := range out {
		out[k] = times(m.ahead(k+1), data.lift(n, n+k))
	}
	return nil
}
