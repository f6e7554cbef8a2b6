package live

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
)

// Report is the forecast of a service.
type Report struct {
	Service   string                 `json:"service"`
	End       time.Time              `json:"end" doc:"Of the last minute that is known; the forecast is of those after it"`
	Step      float64                `json:"step" doc:"Seconds from one time to the next"`
	Learns    bool                   `json:"learns" doc:"All models learn from the service's history; otherwise simple ones forecast"`
	Reason    string                 `json:"reason,omitempty" doc:"Why it does not learn"`
	Fitted    time.Time              `json:"fitted,omitzero" doc:"When the models were fitted last"`
	Forecast  []Step                 `json:"forecast" doc:"New flows in each of the next minutes"`
	Recent    []Measured             `json:"recent" doc:"New flows in each minute of the last two hours"`
	Models    []forecast.ModelStatus `json:"models" doc:"How much each is trusted, for the last step"`
	Anomalies []forecast.Anomaly     `json:"anomalies" doc:"The latest minutes that were not as expected, which are not learnt from"`
}

// Step is the forecast of one minute.
type Step struct {
	Time time.Time `json:"time"`
	forecast.Forecast
}

// Measured is what came in one minute.
type Measured struct {
	Time  time.Time `json:"time"`
	Flows *float64  `json:"flows" doc:"null when it is not known"`
}

// usedBySimple is how much history simple models have, whose features know a week, and judgedOn is how much of it tells what
// they are worth.
const usedBySimple, judgedOn = 8 * forecast.Day, 6 * time.Hour

// shown is how much of what was measured a report has.
const shown = 2 * time.Hour

// Show returns the forecast of a service; of one that nothing is known of yet, it is zero without confidence.
func (f *Forecasts) Show(ctx context.Context, name string) (Report, error) {
	f.mu.Lock()
	s, end := f.services[name], f.end
	var anomalies []forecast.Anomaly
	if s != nil {
		anomalies = slices.Clone(s.anomalies)
	}
	if s != nil && s.forecaster != nil {
		defer f.mu.Unlock()
		r := f.report(name, s)
		r.Learns, r.Fitted, r.Reason, r.Anomalies = true, s.fitted, s.problem, anomalies
		return r, nil
	}
	why := f.reason(name, s)
	f.mu.Unlock()
	if end.IsZero() {
		end = time.Now().Truncate(f.step)
	}
	s, err := f.simple(ctx, name, end)
	if err != nil {
		return Report{}, fmt.Errorf("forecasting %s: %w", name, err)
	}
	r := f.report(name, s)
	r.Reason, r.Anomalies = why, anomalies
	return r, nil
}

// reason says why a service does not learn.
func (f *Forecasts) reason(name string, s *service) string {
	c, known := f.chosen[name]
	switch {
	case s != nil && s.problem != "":
		return s.problem
	case !known:
		return "it was not looked at yet"
	case c.learns:
		return "its turn to learn has not come yet"
	}
	return c.why
}

// simple forecasts with what takes milliseconds to learn.
func (f *Forecasts) simple(ctx context.Context, name string, end time.Time) (*service, error) {
	all := f.read(name, end.Add(-usedBySimple), end)
	s := &service{data: cut(all, max(len(all.Values)-all.Steps(judgedOn), 0))}
	var err error
	s.forecaster, err = forecast.NewForecaster(s.data, forecast.Options{Horizon: Horizon, Models: []string{forecast.Formula}})
	if err != nil {
		return nil, err
	}
	if err := s.forecaster.Fit(ctx); err != nil {
		return nil, err
	}
	return s, s.replay(ctx, all)
}

// report returns what a forecaster says. Lists are never nil, so that they are [] in JSON.
func (f *Forecasts) report(name string, s *service) Report {
	r := Report{
		Service: name, End: s.end(), Step: f.step.Seconds(), Models: s.forecaster.Status(),
		Forecast: []Step{}, Recent: []Measured{}, Anomalies: []forecast.Anomaly{},
	}
	n := len(s.data.Values)
	for i, v := range s.forecaster.Forecast() {
		r.Forecast = append(r.Forecast, Step{s.data.Time(n + i), v})
	}
	for i := max(n-s.data.Steps(shown), 0); i < n; i++ {
		m := Measured{Time: s.data.Time(i)}
		if v := s.data.Values[i]; !math.IsNaN(v) {
			m.Flows = &v
		}
		r.Recent = append(r.Recent, m)
	}
	return r
}

// Latest returns the forecast of the last step of each service that learns.
func (f *Forecasts) Latest() map[string]forecast.Forecast {
	f.mu.Lock()
	defer f.mu.Unlock()
	latest := make(map[string]forecast.Forecast)
	for name, s := range f.services {
		if s.forecaster != nil {
			latest[name] = s.forecaster.Forecast()[Horizon-1]
		}
	}
	return latest
}

// Confirm has a service learn from the anomalies from one time up to before another: traffic is so now. It returns how
// many minutes that were left out are not any more.
func (f *Forecasts) Confirm(name string, from, to time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.services[name]
	if s == nil {
		return 0
	}
	within := func(t time.Time) bool { return !t.Before(from) && t.Before(to) }
	count := 0
	for _, step := range s.data.Excluded() {
		if within(s.data.Time(step)) {
			s.data.Include(step)
			count++
		}
	}
	s.anomalies = slices.DeleteFunc(s.anomalies, func(a forecast.Anomaly) bool { return within(a.Time) })
	return count
}
