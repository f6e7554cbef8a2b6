package control

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/forecast/live"
)

// ForecastConfig bounds what learning from traffic costs.
type ForecastConfig struct {
	Services uint32  `json:"services"` // that learn, the busiest ones; others are forecast by simple models
	Share    Percent `json:"share"`    // of one processor, on average
	Zone     string  `json:"zone"`     // of the clocks that people live by, such as Europe/Berlin; "" is UTC
	Calendar string  `json:"calendar"` // a file of holidays; "" has none
}

// maxLearning services take some 7 GiB.
const maxLearning = 1000

func (c *Config) checkForecast() *FieldError {
	switch {
	case c.Forecast.Services > maxLearning:
		return invalid("forecast.services", "%d is not within 0..%d", c.Forecast.Services, maxLearning)
	case c.Forecast.Share <= 0:
		return invalid("forecast.share", "%s is not above 0%% (services: 0 has nothing learn)", c.Forecast.Share)
	}
	if _, err := forecast.NewCalendar(c.Forecast.Zone, ""); err != nil {
		return invalid("forecast.zone", "%v", err)
	}
	if _, err := forecast.NewCalendar("", c.Forecast.Calendar); err != nil {
		return invalid("forecast.calendar", "%v", err)
	}
	return nil
}

func (d *Daemon) openForecasts() error {
	c := d.config.Forecast
	var err error
	if d.calendar, err = forecast.NewCalendar(c.Zone, c.Calendar); err != nil {
		return err
	}
	d.forecasts, err = live.New(d.store.db, d.history, live.Options{
		Learn: int(c.Services), Share: c.Share.fraction(), Calendar: d.calendar, Events: d.planned, Anomaly: d.anomaly, Logger: d.log,
	})
	return err
}

// planned returns what takes place at a service from one time up to before another.
func (d *Daemon) planned(service string, from, to time.Time) (all []forecast.Event) {
	for _, p := range d.store.Manifest().Events {
		if p.Service != service {
			continue
		}
		e := p.event()
		for _, o := range e.Occurrences(from, to) {
			all = append(all, forecast.Event{Name: e.Name, Start: o.Start, Length: o.End.Sub(o.Start), Expect: float64(e.Expect)})
		}
	}
	return all
}

// anomaly tells that traffic is not as expected.
func (d *Daemon) anomaly(service string, a forecast.Anomaly) {
	e := Event{
		Kind: EventAnomaly, Service: service, From: fmt.Sprintf("%.0f", a.Expected), To: fmt.Sprintf("%.0f", a.Value),
		Cause: fmt.Sprintf("%s of new flows in the minute of %s, by %.1f deviations", a.Kind, a.Time.Format("15:04 MST"), math.Abs(a.Score)),
	}
	m := d.store.Manifest()
	if i, err := m.find(service); err == nil {
		e.key = m.Services[i].Key()
	}
	d.reconciler.journal.add(e)
}

// ConfirmRequest says in which time traffic was unlike before, but will be so again.
type ConfirmRequest struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Confirmed is what a ConfirmRequest did.
type Confirmed struct {
	Minutes int `json:"minutes" doc:"That are learnt from now, and were not"`
}

type confirmation struct {
	Service string `path:"service" doc:"Name or address"`
	Body    ConfirmRequest
}

const forecastPath = service + "/forecast"

func (d *Daemon) registerForecast(api huma.API) {
	huma.Register(api, operation("forecast", http.MethodGet, forecastPath, "The forecast of a service's new flows, for the next 15 minutes", 404),
		func(ctx context.Context, in *serviceRef) (*answer[live.Report], error) {
			name, err := d.serviceName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			return reply(d.forecasts.Show(ctx, name))
		})
	huma.Register(api, operation("confirm-anomalies", http.MethodPost, forecastPath+"/confirm", "Have anomalies learnt from: traffic is so now", 404, 422),
		func(_ context.Context, in *confirmation) (*answer[Confirmed], error) {
			name, err := d.serviceName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			if !in.Body.From.Before(in.Body.To) {
				return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("to: %s is not after from", in.Body.To.Format(time.RFC3339)))
			}
			return reply(Confirmed{d.forecasts.Confirm(name, in.Body.From, in.Body.To)}, nil)
		})
}

// Forecast returns the forecast of a service.
func (c *Client) Forecast(ctx context.Context, service string) (live.Report, error) {
	return call[live.Report](ctx, c, http.MethodGet, servicePath(service)+"/forecast", nil)
}

// ConfirmAnomalies has the anomalies of a service in a time learnt from.
func (c *Client) ConfirmAnomalies(ctx context.Context, service string, r ConfirmRequest) (Confirmed, error) {
	return call[Confirmed](ctx, c, http.MethodPost, servicePath(service)+"/forecast/confirm", r)
}
