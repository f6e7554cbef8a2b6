package scale

import (
	"strings"
	"testing"
	"time"
)

// TestGuard holds decisions one after the other.
func TestGuard(t *testing.T) {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	type step struct {
		after       time.Duration
		there, want int
		is          int
		why         string // in the last reason, "" when there is none
	}
	for name, c := range map[string]struct {
		guard Guard
		steps []step
	}{
		"no limits":         {Guard{}, []step{{0, 4, 100, 100, ""}, {1, 100, 0, 0, ""}}},
		"ends":              {Guard{Limits: Limits{Min: 2, Max: 5}}, []step{{0, 3, 9, 5, "5 instead of 9: no more"}, {0, 3, 0, 2, "2 instead of 0: no fewer"}}},
		"steps":             {Guard{Limits: Limits{StepUp: 2, StepDown: 1}}, []step{{0, 4, 9, 6, "added at once"}, {0, 6, 1, 5, "removed at once"}}},
		"cooldown":          {Guard{Limits: Limits{CooldownUp: time.Minute, CooldownDown: time.Hour}}, []step{{0, 4, 6, 6, ""}, {30 * time.Second, 6, 8, 6, "30s ago"}, {time.Minute, 6, 8, 8, ""}, {30 * time.Minute, 8, 4, 8, "29m0s ago"}, {61 * time.Minute, 8, 4, 4, ""}}},
		"cooldown and ends": {Guard{Limits: Limits{Min: 3, CooldownUp: time.Hour}}, []step{{0, 4, 5, 5, ""}, {time.Minute, 1, 1, 3, "no fewer"}}},
		"tolerance":         {Guard{Limits: Limits{Tolerance: 0.1}}, []step{{0, 20, 18, 20, "within 10 %"}, {0, 20, 17, 17, ""}, {0, 20, 21, 21, ""}}},
		"paused":            {Guard{Paused: "alice: deployment"}, []step{{0, 4, 6, 4, "alice"}, {0, 4, 2, 4, "alice"}, {0, 4, 4, 4, ""}}},
		"freeze": {Guard{Limits: Limits{Freezes: []Freeze{{noon, noon.Add(time.Hour), false, "sale"}, {noon.Add(2 * time.Hour), noon.Add(3 * time.Hour), true, "audit"}}}}, []step{
			{0, 4, 2, 4, "sale"}, {0, 4, 6, 6, ""}, {time.Hour, 6, 2, 2, ""}, {2 * time.Hour, 2, 6, 2, "audit"}, {3 * time.Hour, 2, 6, 6, ""},
		}},
		"budget of an hour": {Guard{Limits: Limits{HourBudget: 3, Price: 0.5}}, []step{{0, 4, 9, 6, "budget of an hour"}, {0, 4, 6, 6, ""}}},
		// 12 hours are left of the day at noon. Four instances for six hours cost 24 of 60.
		"budget of a day":  {Guard{Limits: Limits{DayBudget: 60, Price: 1}}, []step{{0, 4, 9, 5, "budget"}, {6 * time.Hour, 4, 9, 6, "24.00 of the day's budget of 60"}, {12 * time.Hour, 6, 9, 2, "0.00 of the day's"}}},
		"budget and least": {Guard{Limits: Limits{HourBudget: 1, Price: 1, Min: 2}}, []step{{0, 2, 4, 2, "budget"}}},
	} {
		guard := c.guard
		for i, s := range c.steps {
			d := guard.Hold(noon.Add(s.after), Decision{Instances: s.want, Reasons: []string{"asked"}}, s.there)
			why := ""
			if len(d.Reasons) > 1 {
				why = d.Reasons[len(d.Reasons)-1]
			}
			if d.Instances != s.is || !strings.Contains(why, s.why) || (why == "") != (s.why == "") {
				t.Errorf("%s, step %d: %d for %q, not %d for %q", name, i+1, d.Instances, why, s.is, s.why)
			}
		}
	}
}
