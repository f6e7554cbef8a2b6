package forecast

import (
	"context"
	"errors"
	"fmt"
)

// Lesson is what a forecaster's models are fitted with apart from it, so that it can go on meanwhile.
type Lesson struct {
	data    *Data
	members []*member
}

// Lesson returns copies of the models, and the data as they are now. Its Fit may run while the forecaster is used.
func (f *Forecaster) Lesson() (*Lesson, error) {
	l := &Lesson{data: f.data.Snapshot(), members: f.options.models()}
	for i, m := range l.members {
		if f.members[i].Fitted == 0 {
			continue
		}
		state, err := f.members[i].Model.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
		if err := m.Model.UnmarshalBinary(state); err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	return l, nil
}

// Adopt has the forecaster use the models of a lesson, as far as they were fitted.
func (f *Forecaster) Adopt(l *Lesson) {
	for i, m := range l.members {
		old := f.members[i]
		old.Problem, old.FitTime = m.Problem, m.FitTime
		if m.Fitted > 0 {
			old.Model, old.Fitted = m.Model, m.Fitted
		}
	}
}

// Fit has the lesson's models learn, one after the other. It returns the errors of models, which are then as they were
// before; or that of ctx, soon after it is done.
func (l *Lesson) Fit(ctx context.Context) error {
	var problems []error
	for _, m := range l.members {
		if err := m.fit(ctx, l.data); err != nil {
			problems = append(problems, err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(problems...)
}
