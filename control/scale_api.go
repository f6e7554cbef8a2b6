package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/brain/orchestrate"
	"github.com/sluicelb/sluice/brain/orchestrate/lease"
	"github.com/sluicelb/sluice/brain/scale/keda"
)

// ScaleStatus is what is decided about how many backends a service has, and why.
type ScaleStatus struct {
	Service  string `json:"service"`
	Executor string `json:"executor" enum:"none,exec,webhook,kubernetes,keda"`
	Act      string `json:"act" enum:"yes,dry-run"`
	Backends int    `json:"backends" doc:"That are, or are ordered"`
	Ready    int    `json:"ready" doc:"Of them, that are up"`
	Wanted   int    `json:"wanted" doc:"By the latest decision"`

	Load        *float64 `json:"load" doc:"New flows per second; null while it is not known"`
	ServiceRate float64  `json:"service-rate" doc:"New flows per second that a backend serves; 0 is not known yet"`
	Burstiness  float64  `json:"burstiness" doc:"Of arrivals, the squared coefficient of variation; 1 is at random"`

	Predictive bool     `json:"predictive" doc:"Follows from a forecast"`
	Confidence float64  `json:"confidence" doc:"Share of the latest plans that sufficed, 0..1"`
	Reasons    []string `json:"reasons" nullable:"false" doc:"Sentences"`
	Learnt     bool     `json:"learnt" doc:"There are forecasts"`
	Problem    string   `json:"problem,omitempty" doc:"Why there are none"`

	Resilience       *float64 `json:"resilience,omitempty" doc:"How probable it is that the objective is kept when one of the scenarios happens, 0..1"`
	ResilienceReason string   `json:"resilience-reason,omitempty"`

	Plan   uint64      `json:"plan,omitempty" doc:"That is carried out"`
	Paused *ScalePause `json:"paused,omitempty"`
	Lease  string      `json:"lease,omitempty" doc:"Why another host decides"`
	Time   time.Time   `json:"time" doc:"Of the decision"`
}

// report is what is known of a service before it is decided about.
func (sc *scaled) report(f fleet, total int, now time.Time, speed float64) ScaleStatus {
	status := ScaleStatus{
		Service: sc.service.Name, Executor: sc.policy.Executor, Act: sc.policy.Act, Backends: total, Ready: f.ready, Wanted: total,
		ServiceRate: sc.serviceRate(), Burstiness: sc.state.Bursts.Squared(), Reasons: []string{}, Problem: sc.problem, Time: now,
		Learnt: sc.pilot != nil && sc.pilot.Learns(),
	}
	if load := speed * sc.load(); !math.IsNaN(load) {
		status.Load = &load
	}
	if sc.plan != nil {
		status.Plan = sc.plan.plan.Number
	}
	return status
}

// newScaler returns one that does nothing before run.
func (d *Daemon) newScaler(l lease.Lease) (*scaler, error) {
	fence, err := lease.NewFence(d.store.db)
	if err != nil {
		return nil, err
	}
	s := &scaler{
		store: d.store, rules: d.rules, config: d.config.Scale, kernel: d.dataplane, follows: d.reconciler, history: d.history, calendar: d.calendar,
		share: d.config.Forecast.Share.fraction(), events: d.planned, flows: d.liveFlows, clock: d.clock, log: d.log,
		lease: l, fence: fence, keda: keda.New(), learnable: make(chan struct{}, 1), services: make(map[string]*scaled),
	}
	if s.plans, err = orchestrate.OpenStore(d.store.db); err != nil {
		return nil, err
	}
	if s.states, err = openScaleStates(d.store.db); err != nil {
		return nil, err
	}
	if s.pauses, err = s.states.pauses(); err != nil {
		return nil, err
	}
	order := orderer{s}
	s.runner = orchestrate.Runner{
		Store: s.plans, Token: l.Token,
		Actors: map[string]orchestrate.Actor{orchestrate.ScaleUp: order, orchestrate.ScaleDown: order, orchestrate.Drain: drainer{s}},
	}
	return s, nil
}

// paused says who paused the scaling of a service, "" nobody. s.mu must be held.
func (s *scaler) paused(service string) string {
	if p := s.pauseOf(service); p != nil {
		return p.String()
	}
	return ""
}

// pauseOf returns the pause of a service, or of all, nil when there is none now.
func (s *scaler) pauseOf(service string) *ScalePause {
	for _, key := range []string{service, allServices} {
		if p, ok := s.pauses[key]; ok && (p.Until.IsZero() || time.Now().Before(p.Until)) {
			return &p
		}
	}
	return nil
}

// setPause pauses the scaling of a service, or resumes it with nil. It returns whether it was paused.
func (s *scaler) setPause(service string, p *ScalePause) (was bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was = s.pauses[service]
	if err := s.states.pause(service, p); err != nil {
		return was, err
	}
	if p == nil {
		delete(s.pauses, service)
	} else {
		s.pauses[service] = *p
	}
	return was, nil
}

// report returns the latest decisions, sorted by service.
func (s *scaler) report() []ScaleStatus {
	_, held := s.lease.Token()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []ScaleStatus{}
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		status := s.services[name].status
		if status.Service == "" {
			continue // not decided about yet
		}
		status.Paused = s.pauseOf(name)
		if held != nil {
			status.Lease = held.Error()
		}
		all = append(all, status)
	}
	return all
}

// PauseRequest says for how long, and why, scaling is paused.
type PauseRequest struct {
	For    Duration `json:"for,omitzero" doc:"Default: until it is resumed"`
	Reason string   `json:"reason,omitempty" maxLength:"200"`
}

type (
	pauseChange struct {
		Service string `path:"service" doc:"Name or address; * is all"`
		Body    PauseRequest
	}
	planRef struct {
		Number uint64 `path:"number"`
	}
)

const (
	scalePath = "/v1/scale"
	pausePath = scalePath + "/{service}/pause"
	plansPath = "/v1/plans"
)

func (d *Daemon) registerScale(api huma.API) {
	huma.Register(api, operation("scale", http.MethodGet, scalePath, "What is decided about how many backends services have, and why"),
		func(context.Context, *struct{}) (*answer[[]ScaleStatus], error) { return reply(d.scaler.report(), nil) })
	huma.Register(api, operation("pause-scaling", http.MethodPut, pausePath, "Start and end no backends of a service, or of all", 404, 422),
		func(_ context.Context, in *pauseChange) (*answer[ScalePause], error) {
			if in.Body.For < 0 {
				return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("for: %s is negative", in.Body.For))
			}
			name, err := d.scaledName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			p := ScalePause{Since: time.Now().UTC().Truncate(time.Second), Reason: in.Body.Reason}
			if in.Body.For > 0 {
				p.Until = p.Since.Add(time.Duration(in.Body.For))
			}
			_, err = d.scaler.setPause(name, &p)
			return reply(p, err)
		})
	huma.Register(api, operation("resume-scaling", http.MethodDelete, pausePath, "Scale again", 404),
		func(_ context.Context, in *serviceRef) (*struct{}, error) {
			name, err := d.scaledName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			was, err := d.scaler.setPause(name, nil)
			if err == nil && !was {
				err = tag(ErrNotFound, "the scaling of %s is not paused", cmp.Or(map[bool]string{true: "all services"}[name == allServices], name))
			}
			if err != nil {
				return nil, statusError(err)
			}
			return nil, nil
		})
	huma.Register(api, operation("plans", http.MethodGet, plansPath, "The latest plans, the oldest first"),
		func(context.Context, *struct{}) (*answer[[]*orchestrate.Plan], error) {
			plans, err := d.scaler.plans.List()
			return reply(append([]*orchestrate.Plan{}, plans...), err)
		})
	huma.Register(api, operation("plan", http.MethodGet, plansPath+"/{number}", "One plan", 404),
		func(_ context.Context, in *planRef) (*answer[*orchestrate.Plan], error) {
			p, err := d.scaler.plans.Get(in.Number)
			if err == nil && p == nil {
				err = tag(ErrNotFound, "there is no plan %d", in.Number)
			}
			return reply(p, err)
		})
}

// scaledName returns the name of a service that scales, or what stands for all.
func (d *Daemon) scaledName(ref string) (string, error) {
	if ref == allServices {
		return allServices, nil
	}
	m := d.store.Manifest()
	i, err := m.find(ref)
	if err != nil {
		return "", err
	}
	if !m.Services[i].Scaling.on() {
		return "", tag(ErrNotFound, "service %q does not scale: it has no `scaling`", m.Services[i].Name)
	}
	return m.Services[i].Name, nil
}

// Scale returns what is decided about how many backends services have.
func (c *Client) Scale(ctx context.Context) ([]ScaleStatus, error) {
	return call[[]ScaleStatus](ctx, c, http.MethodGet, scalePath, nil)
}

// AllServices stands for all services where one can be named.
const AllServices = "*"

// PauseScaling pauses the scaling of a service, or of AllServices.
func (c *Client) PauseScaling(ctx context.Context, service string, r PauseRequest) (ScalePause, error) {
	return call[ScalePause](ctx, c, http.MethodPut, scalePath+"/"+url.PathEscape(service)+"/pause", r)
}

// ResumeScaling ends the pause of a service, or that of AllServices.
func (c *Client) ResumeScaling(ctx context.Context, service string) error {
	_, err := call[empty](ctx, c, http.MethodDelete, scalePath+"/"+url.PathEscape(service)+"/pause", nil)
	return err
}

// Plans returns the latest plans, the oldest first.
func (c *Client) Plans(ctx context.Context) ([]*orchestrate.Plan, error) {
	return call[[]*orchestrate.Plan](ctx, c, http.MethodGet, plansPath, nil)
}

// Plan returns one plan.
func (c *Client) Plan(ctx context.Context, number uint64) (*orchestrate.Plan, error) {
	return call[*orchestrate.Plan](ctx, c, http.MethodGet, plansPath+"/"+strconv.FormatUint(number, 10), nil)
}
