package forecast

import (
	"fmt"
	"math"
	"time"
)

// ModelStatus is how much a model is trusted, for the last step of the horizon.
type ModelStatus struct {
	Name   string    `json:"name"`
	Weight float64   `json:"weight"`           // in the ensemble, 0 to 1
	Skill  float64   `json:"skill"`            // 1 - its error / that of the best baseline over the last week; 0 when it made no forecasts
	Fitted time.Time `json:"fitted,omitzero"`  // the beginning of the first step that it does not know
	Why    string    `json:"reason,omitempty"` // why it has no weight
}

// Status returns it for each model, the baselines first.
func (f *Forecaster) Status() []ModelStatus {
	k := f.knots[len(f.knots)-1]
	skills, best := k.record.skills(), k.record.best()
	list := make([]ModelStatus, len(f.members))
	for i, m := range f.members {
		s := ModelStatus{Name: m.Name}
		if k.weights != nil {
			s.Weight = k.weights[i]
		}
		if !math.IsNaN(skills[i].value) {
			s.Skill = skills[i].value
		}
		if m.Fitted > 0 {
			s.Fitted = f.data.Time(m.Fitted)
		}
		if s.Weight == 0 || !m.sound {
			s.Why = f.reason(m, skills[i], best)
		}
		list[i] = s
	}
	return list
}

// reason says why a model has no weight.
func (f *Forecaster) reason(m *member, s skill, best int) string {
	switch {
	case m.Problem != "":
		return m.Problem
	case !m.sound:
		return "it was not fitted for a week"
	case math.IsNaN(s.value):
		return "none of its forecasts can be judged yet"
	case s.value <= 0:
		return fmt.Sprintf("lately it was not better than %s", f.members[best].Name)
	}
	return fmt.Sprintf("lately it was better than %s by chance at most", f.members[best].Name)
}
