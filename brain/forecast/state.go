package forecast

import (
	"fmt"
	"time"
)

// savedForecaster is what is kept of a forecaster beside its data.
type savedForecaster struct {
	Start   time.Time // of the data, which steps are counted from
	Members []savedMember
	Knots   []savedKnot
}

type savedMember struct {
	Name   string
	Fitted int
	State  []byte
}

type savedKnot struct {
	Steps      int
	Record     record
	Calibrator calibrator
}

// MarshalBinary saves the models and what is known of their forecasts, but not the data.
func (f *Forecaster) MarshalBinary() ([]byte, error) {
	s := savedForecaster{Start: f.data.Start}
	for _, m := range f.members {
		state, err := m.Model.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
		s.Members = append(s.Members, savedMember{m.Name, m.Fitted, state})
	}
	for _, k := range f.knots {
		s.Knots = append(s.Knots, savedKnot{k.steps, *k.record, *k.calibrator})
	}
	return save(s)
}

// UnmarshalBinary loads what MarshalBinary saved into a new forecaster of the same series, whose data may begin at another
// time. Models that are not among its own are left out. The forecaster is unchanged when it returns an error.
func (f *Forecaster) UnmarshalBinary(saved []byte) error {
	var s savedForecaster
	if err := load(saved, &s); err != nil {
		return err
	}
	if len(s.Knots) != len(f.knots) {
		return errOtherKnots
	}
	earlier := f.data.index(s.Start)
	members := f.options.models()
	for i, m := range members {
		m.forecasts = f.members[i].forecasts
		if err := m.load(s.Members, earlier); err != nil {
			return fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	for i, k := range f.knots {
		if s.Knots[i].Steps != k.steps || len(s.Knots[i].Record.Current) != len(members) {
			return errOtherKnots
		}
	}
	f.members = members
	for i, k := range f.knots {
		k.record = &s.Knots[i].Record
		every := k.calibrator.every
		k.calibrator = &s.Knots[i].Calibrator
		k.calibrator.every = every
		if len(k.calibrator.Scores) > 0 {
			k.calibrator.reckon()
		}
		k.weights = k.record.weights()
	}
	f.look()
	return nil
}

// mover is a model that knows steps by their number; move adds to it.
type mover interface{ move(by int) }

// load takes the state of the model's name. The steps of the saved state are that many later in the data.
func (m *member) load(saved []savedMember, later int) error {
	for _, s := range saved {
		if s.Name != m.Name || s.Fitted == 0 {
			continue
		}
		if err := m.Model.UnmarshalBinary(s.State); err != nil {
			return err
		}
		m.Fitted = max(s.Fitted+later, 0)
		if p, ok := m.Model.(*pointModel); ok {
			if mover, ok := p.point.(mover); ok {
				mover.move(later)
			}
		}
	}
	return nil
}

func (m *holtWinters) move(by int) { m.Begin += by }

func (m *arima) move(by int) { m.Begin, m.Chosen = m.Begin+by, m.Chosen+by }
