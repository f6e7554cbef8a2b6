package scale

import (
	"fmt"
	"math"
	"time"
)

// Limits are what no decision goes beyond, however sure it is. The zero value of a field is no limit.
type Limits struct {
	Min, Max int
	// StepUp and StepDown are how many instances are added or removed at once, at most.
	StepUp, StepDown int
	// CooldownUp and CooldownDown are how long nothing is added or removed after a change. CooldownDown should be at least as long
	// as an instance is billed for.
	CooldownUp, CooldownDown time.Duration
	// Tolerance is by what part of what is there a change must be to be made, such as 0.05, unless there are too few.
	Tolerance float64
	// HourBudget and DayBudget are what instances may cost in an hour and in a day, at Price for an hour each.
	HourBudget, DayBudget, Price float64
	// Freezes are times in which nothing is removed, and with Freeze.All nothing is added either.
	Freezes []Freeze
}

// Freeze is a time in which capacity stays.
type Freeze struct {
	From, To time.Time
	All      bool
	Why      string
}

// Within returns n, or the nearest number of instances that Min and Max allow.
func (l *Limits) Within(n int) int {
	if l.Max > 0 {
		n = min(n, l.Max)
	}
	return max(n, l.Min)
}

// Guard holds decisions within Limits. It is not safe for concurrent use.
type Guard struct {
	Limits
	Paused string // who paused scaling, and why; "" is not paused

	GuardState
}

// GuardState is what a Guard remembers, so that it goes on after a restart.
type GuardState struct {
	Changed time.Time `json:"changed"` // by the last decision that changed something
	Day     time.Time `json:"day"`     // that Spent is of
	Spent   float64   `json:"spent"`
	Seen    time.Time `json:"seen"` // up to when it is reckoned
}

// Hold returns the decision within the limits, with a reason for each that it was held back by; what is there now are so many
// instances. It never removes what keeps Min, nor adds beyond Max. It is to be called for each decision, in order.
func (g *Guard) Hold(now time.Time, d Decision, there int) Decision {
	g.account(now, there)
	want := d.Instances
	held := func(to int, format string, args ...any) {
		d.Reasons = append(d.Reasons, fmt.Sprintf("%d instead of %d: ", to, want)+fmt.Sprintf(format, args...))
		want = to
	}
	if want < g.Min {
		held(g.Min, "no fewer are allowed")
	}
	if g.Max > 0 && want > g.Max {
		held(g.Max, "no more are allowed")
	}
	if most, why := g.affordable(now); want > most {
		held(max(most, g.Min, 1), "%s", why)
	}
	if g.StepUp > 0 && want > there+g.StepUp {
		held(there+g.StepUp, "no more are added at once")
	}
	if g.StepDown > 0 && want < there-g.StepDown {
		held(there-g.StepDown, "no more are removed at once")
	}
	if want != there {
		if why := g.stays(now, want, there); why != "" {
			held(there, "%s", why)
		}
	}
	d.Instances = want
	if want != there {
		g.Changed = now
	}
	return d
}

// stays says why nothing is changed though something else is wanted; "" when it is.
func (g *Guard) stays(now time.Time, want, there int) string {
	within := there >= g.Min && (g.Max == 0 || there <= g.Max)
	since := now.Sub(g.Changed)
	switch {
	case g.Paused != "":
		return "scaling is paused: " + g.Paused
	case g.frozen(now, want > there) != "":
		return g.frozen(now, want > there)
	case !within:
		return ""
	case want > there && !g.Changed.IsZero() && since < g.CooldownUp:
		return fmt.Sprintf("the last change was %v ago, and %v shall pass", since.Round(time.Second), g.CooldownUp)
	case want < there && !g.Changed.IsZero() && since < g.CooldownDown:
		return fmt.Sprintf("the last change was %v ago, and %v shall pass", since.Round(time.Second), g.CooldownDown)
	case want < there && float64(there-want) <= g.Tolerance*float64(there):
		return fmt.Sprintf("the difference is within %.0f %%", 100*g.Tolerance)
	}
	return ""
}

func (g *Guard) frozen(now time.Time, adds bool) string {
	for _, f := range g.Freezes {
		if !now.Before(f.From) && now.Before(f.To) && (f.All || !adds) {
			return fmt.Sprintf("frozen until %s: %s", f.To.Format(time.RFC3339), f.Why)
		}
	}
	return ""
}

// account adds up what instances have cost today (UTC).
func (g *Guard) account(now time.Time, there int) {
	if day := now.UTC().Truncate(24 * time.Hour); !day.Equal(g.Day) {
		g.Day, g.Spent = day, 0
		g.Seen = now
	}
	g.Spent += max(now.Sub(g.Seen), 0).Hours() * float64(there) * g.Price
	g.Seen = now
}

// affordable returns how many instances the budgets allow now, and why no more.
func (g *Guard) affordable(now time.Time) (most int, why string) {
	most = math.MaxInt
	if g.Price <= 0 {
		return most, ""
	}
	if g.HourBudget > 0 {
		most, why = int(g.HourBudget/g.Price+1e-9), fmt.Sprintf("the budget of an hour is %g", g.HourBudget)
	}
	if g.DayBudget > 0 {
		left := g.Day.Add(24 * time.Hour).Sub(now).Hours()
		if m := int(max(g.DayBudget-g.Spent, 0)/(left*g.Price) + 1e-9); m < most {
			most, why = m, fmt.Sprintf("%.2f of the day's budget of %g are spent", g.Spent, g.DayBudget)
		}
	}
	return most, why
}
