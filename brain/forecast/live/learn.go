package live

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
)

// learnNext has the service learn whose models are the oldest, when one is due, and says that there may be more.
func (f *Forecasts) learnNext(ctx context.Context) (more bool) {
	name, s := f.due()
	if s == nil {
		return false
	}
	began := time.Now()
	var err error
	if s.forecaster == nil {
		err = f.begin(ctx, name)
	} else {
		err = f.again(ctx, name, s)
	}
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		f.failed(name, err)
		f.o.Logger.Error("a service cannot learn from its traffic; trying again tomorrow", "service", name, "error", err)
		return true
	}
	f.o.Logger.Info("learnt from traffic", "service", name, "took", time.Since(began).Round(time.Second))
	if err := f.save(name); err != nil {
		f.o.Logger.Error("what was learnt cannot be saved; after a restart it is learnt again", "service", name, "error", err)
	}
	return true
}

// failed has a service wait for a day.
func (f *Forecasts) failed(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.saved, name)
	if s := f.services[name]; s != nil {
		s.fitted, s.problem = f.end, err.Error()
	}
}

// due returns the chosen service that has not learnt for longest, nil when all have today. Those that only have to go on from
// a saved state are first.
func (f *Forecasts) due() (name string, oldest *service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, s := range f.services {
		if !f.chosen[n].learns || f.end.Sub(s.fitted) < refit {
			continue
		}
		if oldest == nil || cmp.Or(first(f.saved[n], f.saved[name]), s.fitted.Compare(oldest.fitted), cmp.Compare(n, name)) < 0 {
			name, oldest = n, s
		}
	}
	return name, oldest
}

// first compares, true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// again fits the models of a service that has learnt before, and drops what is too old to learn from.
func (f *Forecasts) again(ctx context.Context, name string, s *service) error {
	f.mu.Lock()
	lesson, err := s.forecaster.Lesson()
	data := s.data.Snapshot()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	detector := forecast.Detector{Seed: f.o.Seed}
	if err := f.background().Do(ctx, func(ctx context.Context) error { return fit(ctx, lesson, &detector, data) }); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.services[name] != s || s.forecaster == nil {
		return nil // it was forgotten meanwhile
	}
	s.forecaster.Adopt(lesson)
	s.detector.Adopt(&detector)
	s.fitted, s.problem = f.end, ""
	return f.drop(s)
}

// fit has models and detector learn. What cannot learn is no reason for the others not to.
func fit(ctx context.Context, lesson *forecast.Lesson, detector *forecast.Detector, data *forecast.Data) error {
	err := lesson.Fit(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e := detector.Fit(ctx, data); e != nil && err == nil && e != forecast.ErrTooShort {
		err = fmt.Errorf("the detector of anomalies: %w", e)
	}
	return err
}

// drop has the service forget what is too old to learn from.
func (f *Forecasts) drop(s *service) error {
	data, dropped := s.data.Tail(s.data.Steps(learnt))
	if dropped == 0 {
		return nil
	}
	state, err := s.forecaster.MarshalBinary()
	if err != nil {
		return err
	}
	forecaster, err := f.forecaster(data)
	if err != nil {
		return err
	}
	if err := forecaster.UnmarshalBinary(state); err != nil {
		return err
	}
	s.data, s.forecaster = data, forecaster
	s.detector.Dropped(dropped)
	return nil
}

func (f *Forecasts) forecaster(data *forecast.Data) (*forecast.Forecaster, error) {
	return forecast.NewForecaster(data, forecast.Options{Horizon: Horizon, Models: f.o.Models, Seed: f.o.Seed, Patience: patience})
}

// patience is how long a model may take for a forecast. All together take a fifth of a millisecond, so that this is a model
// that has gone wrong.
const patience = 100 * time.Millisecond

// begin has a service learn that does not yet: from where it stopped before a restart, or from its history but for the last
// day, which then tells what the models are worth.
func (f *Forecasts) begin(ctx context.Context, name string) error {
	f.mu.Lock()
	end := f.end
	f.mu.Unlock()
	var s *service
	err := f.background().Do(ctx, func(ctx context.Context) error {
		var err error
		if s, err = f.restore(ctx, name, end); err != nil {
			f.o.Logger.Warn("what was learnt before the restart is of no use; learning anew", "service", name, "error", err)
		}
		if s == nil {
			s, err = f.firstTime(ctx, name, end)
		}
		return err
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.services[name]
	if old == nil {
		return nil // it was forgotten meanwhile
	}
	rows, err := f.history.Read(name, s.end(), f.end)
	if err != nil {
		return err
	}
	for _, row := range rows {
		s.append(row)
		s.detector.Look(s.data)
	}
	s.anomalies = old.anomalies
	f.services[name] = s
	delete(f.saved, name)
	return nil
}

// firstTime has a service learn for the first time.
func (f *Forecasts) firstTime(ctx context.Context, name string, end time.Time) (*service, error) {
	all := f.readKnown(name, end)
	s := &service{fitted: end, detector: forecast.Detector{Seed: f.o.Seed}}
	day := min(all.Steps(forecast.Day), len(all.Values)/2)
	s.data = cut(all, len(all.Values)-day)
	var err error
	if s.forecaster, err = f.forecaster(s.data); err != nil {
		return nil, err
	}
	lesson, err := s.forecaster.Lesson()
	if err != nil {
		return nil, err
	}
	if err := fit(ctx, lesson, &s.detector, s.data.Snapshot()); err != nil {
		return nil, err
	}
	s.forecaster.Adopt(lesson)
	return s, s.replay(ctx, all)
}

// cut returns the first steps of data.
func cut(data *forecast.Data, steps int) *forecast.Data {
	first := forecast.NewData(forecast.Series{Start: data.Start, Step: data.Step, Values: data.Values[:steps]})
	first.Calendar, first.Events, first.System = data.Calendar, data.Events, slices.Clone(data.System[:steps])
	return first
}

// replay adds the steps of data that the service does not have yet, as if they came now.
func (s *service) replay(ctx context.Context, data *forecast.Data) error {
	for i := len(s.data.Values); i < len(data.Values); i++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.data.System = append(s.data.System, data.System[i])
		s.forecaster.Append(data.Values[i])
		s.detector.Look(s.data)
	}
	return nil
}
