// Package live forecasts the traffic of all services of a daemon, minute after minute.
//
// Services that learn have all models of brain/forecast and a detector of anomalies, fitted to four weeks of their
// history anew each day, in the background. Each takes some 7 MiB, and half a minute of a processor a day. They are the
// busiest ones that have history enough. All others cost next to nothing: the last hours tell whether a
// minute is an anomaly, and they are forecast by simple models when somebody asks.
package live

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
)

// Horizon is how many steps are forecast: with steps of a minute a quarter of an hour.
const Horizon = 15

const (
	// learnt is how much history is learnt from: features and weekly patterns reach back a week, and four of
	// them say more than one. More is not worth its memory.
	learnt = 28 * forecast.Day
	// enough is how much of it must be known for a service to learn.
	enough = 2 * forecast.Day
	// refit is how often the models are fitted anew.
	refit = forecast.Day
	// short is how much is remembered of services that do not learn, at least: what the detector looks at.
	short = 65 * time.Minute
	// rechoose is how often it is looked which services are the busiest, and stay is how many times as busy as
	// one that learns another one must be to take its place.
	rechoose, stay = time.Hour, 1.5
	// gone is for how long nothing must be known of a service until it is forgotten.
	gone = time.Hour
	// shownAnomalies are remembered of a service.
	shownAnomalies = 20
)

// learners are the models of services that learn: all but the forest, which takes 100 MiB a service.
var learners = []string{forecast.HoltWinters, forecast.ARIMA, forecast.Formula, forecast.Ridge, forecast.Boosting, forecast.BoostingSmall, forecast.LSTM}

// Options are what New is given.
type Options struct {
	Learn    int     // services that learn, at most
	Share    float64 // of one processor that learning may take on average, above 0 to 1
	Seed     uint64
	Calendar forecast.Calendar
	Models   []string // of services that learn; nil is all but the forest
	// Events returns what is planned for a service in a time, may be nil, and must not call the Forecasts.
	Events func(service string, from, to time.Time) []forecast.Event
	// Anomaly is told what was not expected; it must not call the Forecasts.
	Anomaly func(service string, a forecast.Anomaly)
	Logger  *slog.Logger
}

// Forecasts are those of all services. It is safe for concurrent use.
type Forecasts struct {
	o       Options
	history *history.History
	step    time.Duration
	states  states
	minute  chan struct{} // there is one more

	mu       sync.Mutex
	services map[string]*service
	end      time.Time // of the last minute; zero before the first
	chosen   map[string]choice
	chosenAt time.Time       // the end then
	saved    map[string]bool // services that have a state of before the restart
}

// service is what is known of one.
type service struct {
	data       *forecast.Data // of the last hours, or of what is learnt from
	detector   forecast.Detector
	forecaster *forecast.Forecaster // nil when it does not learn
	fitted     time.Time            // when it learnt last, by the minutes
	problem    string               // why it does not learn though it should
	anomalies  []forecast.Anomaly   // the latest last
}

// choice is whether a service may learn, and why it does not.
type choice struct {
	learns bool
	why    string
}

// New returns forecasts of what a history has, with their state in a bucket of the store.
func New(db *bolt.DB, h *history.History, o Options) (*Forecasts, error) {
	if o.Models == nil {
		o.Models = learners
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	f := &Forecasts{o: o, history: h, step: h.Step(), minute: make(chan struct{}, 1), services: make(map[string]*service)}
	var err error
	if f.states, err = openStates(db); err != nil {
		return nil, err
	}
	f.saved, err = f.states.names()
	return f, err
}

// Minute adds what was measured in the minute around a time, once it is in the history. Minutes that are left out are not known;
// one that is not later than the last is left out.
func (f *Forecasts) Minute(at time.Time, rows map[string]history.Row) {
	begin := at.Truncate(f.step)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end.Sub(begin) > gone { // the clock was wrong, and is set back
		clear(f.services)
		f.end = begin
	}
	if !begin.Before(f.end) {
		f.end = begin.Add(f.step)
		for name, row := range rows {
			f.add(name, begin, row)
		}
		maps.DeleteFunc(f.services, func(_ string, s *service) bool { return f.end.Sub(s.end()) > gone })
	}
	select {
	case f.minute <- struct{}{}:
	default:
	}
}

// add adds a row of a service.
func (f *Forecasts) add(name string, begin time.Time, row history.Row) {
	s := f.services[name]
	if s == nil || begin.Sub(s.end()) > gone {
		s = &service{data: f.read(name, begin.Add(-short), begin)}
		s.data.System = nil
		f.services[name] = s
	}
	if begin.Before(s.end()) {
		return
	}
	if f.o.Events != nil && s.forecaster != nil {
		s.data.Events = f.o.Events(name, s.data.Start, begin.Add((Horizon+1)*f.step))
	}
	for s.end().Before(begin) {
		s.append(history.Absent())
	}
	s.append(row)
	if a, found := s.detector.Look(s.data); found {
		s.anomalies = append(s.anomalies[max(len(s.anomalies)-shownAnomalies+1, 0):], a)
		if f.o.Anomaly != nil {
			f.o.Anomaly(name, a)
		}
	}
	if most := s.data.Steps(short); s.forecaster == nil && len(s.data.Values) > most+most/4 {
		s.keep(most)
	}
}

// end is that of the last minute.
func (s *service) end() time.Time { return s.data.Time(len(s.data.Values)) }

// append adds what was measured in the next minute. The system's part is of use to those that learn only.
func (s *service) append(row history.Row) {
	if s.forecaster == nil {
		s.data.Append(float64(row[history.NewFlows]))
		return
	}
	s.data.System = append(s.data.System, systemOf(row))
	s.forecaster.Append(float64(row[history.NewFlows]))
}

func systemOf(row history.Row) forecast.System {
	return forecast.System{
		Backends: float64(row[history.Backends]), Flows: float64(row[history.Flows]), Handshake: float64(row[history.Handshake]),
		Retransmissions: float64(row[history.Retransmissions]), Errors: float64(row[history.Errors]),
	}
}

// keep drops all but the last steps of a service without a forecaster.
func (s *service) keep(steps int) {
	var dropped int
	s.data, dropped = s.data.Tail(steps)
	s.data.System = nil
	s.detector.Dropped(dropped)
}

// read returns what the history has of a service from one time up to before another; what cannot be read is not known.
func (f *Forecasts) read(name string, from, to time.Time) *forecast.Data {
	return f.dataOf(name, from, to, f.rows(name, from, to))
}

// readKnown is read of what is learnt from up to a time, without what is not known before the first minute that is.
func (f *Forecasts) readKnown(name string, to time.Time) *forecast.Data {
	from := to.Add(-learnt)
	rows := f.rows(name, from, to)
	first := max(slices.IndexFunc(rows, func(r history.Row) bool { return r.Known() }), 0)
	return f.dataOf(name, from.Add(time.Duration(first)*f.step), to, rows[first:])
}

func (f *Forecasts) rows(name string, from, to time.Time) []history.Row {
	rows, err := f.history.Read(name, from, to)
	if err != nil {
		f.o.Logger.Error("the history cannot be read; that time is not forecast from", "service", name, "error", err)
	}
	return rows
}

// dataOf returns the rows of a service from one time up to before another as data.
func (f *Forecasts) dataOf(name string, from, to time.Time, rows []history.Row) *forecast.Data {
	data := forecast.NewData(forecast.Series{Start: from.Truncate(f.step), Step: f.step})
	data.Calendar = f.o.Calendar
	if f.o.Events != nil {
		data.Events = f.o.Events(name, from, to.Add(Horizon*f.step))
	}
	for _, row := range rows {
		data.System = append(data.System, systemOf(row))
		data.Append(float64(row[history.NewFlows]))
	}
	return data
}

// Run has services learn until ctx ends.
func (f *Forecasts) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if f.mustChoose() {
			f.choose(ctx)
		}
		if f.learnNext(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-f.minute:
		}
	}
}

// mustChoose says that it is time to look which services are the busiest. In the first minute none is known.
func (f *Forecasts) mustChoose() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.end.IsZero() && f.end.Sub(f.chosenAt).Abs() >= rechoose
}

// Imported tells that the past of a service is another one now: it learns anew.
func (f *Forecasts) Imported(name string) error {
	f.mu.Lock()
	delete(f.services, name)
	delete(f.saved, name)
	f.chosenAt = time.Time{}
	f.mu.Unlock()
	return f.states.remove(name)
}

// choose decides which services learn: those that were busiest in the last day.
func (f *Forecasts) choose(ctx context.Context) {
	f.mu.Lock()
	end := f.end
	learns := make(map[string]bool)
	for name, s := range f.services {
		learns[name] = s.forecaster != nil
	}
	f.mu.Unlock()

	type candidate struct {
		name string
		busy float64
	}
	var candidates []candidate
	chosen := make(map[string]choice)
	err := f.background().Do(ctx, func(ctx context.Context) error {
		for name, already := range learns {
			busy, known := f.busy(name, end)
			if known < enough {
				chosen[name] = choice{why: "it has " + known.Round(f.step).String() + " of history, and models need two days"}
			} else {
				if already {
					busy *= stay
				}
				candidates = append(candidates, candidate{name, busy})
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	if err != nil {
		return // ctx has ended
	}
	f.forget(learns)
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.busy, a.busy), cmp.Compare(a.name, b.name))
	})
	for i, c := range candidates {
		if i < f.o.Learn {
			chosen[c.name] = choice{learns: true}
		} else {
			chosen[c.name] = choice{why: "other services are busier, and forecast.services of them learn"}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chosen, f.chosenAt = chosen, end
	for name, s := range f.services {
		if s.forecaster != nil && !chosen[name].learns {
			s.forecaster = nil
			s.keep(s.data.Steps(short))
		}
	}
}

// forget removes the state of services that are gone: not among those an hour after the start.
func (f *Forecasts) forget(services map[string]bool) {
	if f.chosen == nil {
		return
	}
	names, err := f.states.names()
	for name := range names {
		if _, there := services[name]; !there && err == nil {
			err = f.states.remove(name)
		}
	}
	if err != nil {
		f.o.Logger.Error("what services that are gone have learnt cannot be removed; trying again in an hour", "error", err)
	}
}

// busy returns the flows that a service had in its last day, and for how long its traffic is known, as far as that
// matters.
func (f *Forecasts) busy(name string, end time.Time) (flows float64, known time.Duration) {
	rows, err := f.history.Read(name, end.Add(-2*enough), end)
	if err != nil {
		return 0, 0
	}
	for i, row := range rows {
		if v := float64(row[history.NewFlows]); !math.IsNaN(v) {
			known += f.step
			if time.Duration(len(rows)-i)*f.step <= forecast.Day {
				flows += v
			}
		}
	}
	return flows, known
}

func (f *Forecasts) background() forecast.Background { return forecast.Background{Share: f.o.Share} }
