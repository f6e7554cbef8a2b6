package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/orchestrate"
	"github.com/sluicelb/sluice/brain/scale"
	"github.com/sluicelb/sluice/brain/scale/executor"
)

// The parameters of steps.
const (
	paramInstances = "instances"
	paramWas       = "was"
	paramBackends  = "backends" // names, with blanks between
)

// recommend says what is to be done so that a service has as many backends as was decided. Of those that scaling started the ones that are not up
// end first, then the latest; whoever was configured stays. Where scaling started none only the number is ordered, and who ends them drains them.
func (sc *scaled) recommend(f fleet, total int, d scale.Decision) []orchestrate.Recommendation {
	order := orchestrate.Recommendation{
		ID: "order", Pattern: orchestrate.Scaling, Action: orchestrate.ScaleUp, Target: sc.service.Name, Confidence: d.Confidence,
		Cost: float64(d.Instances-total) * sc.policy.Price, Impact: "more capacity", Duration: time.Duration(sc.policy.Boot), Critical: true, Reasons: d.Reasons,
		Params: map[string]string{paramInstances: strconv.Itoa(d.Instances), paramWas: strconv.Itoa(total), paramBackends: strings.Join(f.lost, " ")},
	}
	if d.Instances > total {
		return []orchestrate.Recommendation{order}
	}
	order.Action, order.Impact, order.Duration = orchestrate.ScaleDown, "less capacity, as much as is not needed", time.Minute
	names := f.ordered[:min(total-d.Instances, len(f.ordered))]
	order.Params[paramBackends] = strings.Join(append(slices.Clone(f.lost), names...), " ")
	if len(names) == 0 {
		return []orchestrate.Recommendation{order}
	}
	order.Params[paramInstances] = strconv.Itoa(total - len(names))
	drain := order
	drain.ID, drain.Action, drain.Impact, drain.Cost = "drain", orchestrate.Drain, "connections finish where they are", 0
	drain.Duration = sc.policy.Drain.duration()
	drain.Timeout = drain.Duration + time.Minute
	drain.Params = map[string]string{paramBackends: strings.Join(names, " ")}
	order.Needs = []string{drain.ID}
	return []orchestrate.Recommendation{drain, order}
}

// orderer has an executor start and end backends, and the desired state follow. It is an orchestrate.Actor.
type orderer struct{ *scaler }

// Do carries out a step of scaling up or down.
func (o orderer) Do(ctx context.Context, step orchestrate.Step, token uint64) error {
	instances, err := strconv.Atoi(step.Params[paramInstances])
	if err != nil {
		return fmt.Errorf("the step has no number of instances: %w", err)
	}
	was, err := strconv.Atoi(step.Params[paramWas])
	if err != nil {
		return fmt.Errorf("the step does not say how many instances there were: %w", err)
	}
	remove := strings.Fields(step.Params[paramBackends])
	result, err := o.execute(ctx, step, token, executor.Order{Instances: instances, Was: was, Remove: remove})
	if err != nil {
		return err
	}
	if most := max(instances-was, 0) + len(remove); len(result.Backends) > most {
		return fmt.Errorf("%d backends were started, and at most %d are new", len(result.Backends), most)
	}
	return o.adopt(ctx, step, result.Backends, remove)
}

// Undo orders as many as there were, and ends those that the step started.
func (o orderer) Undo(ctx context.Context, step orchestrate.Step, token uint64) error {
	was, err := strconv.Atoi(step.Params[paramWas])
	if err != nil {
		return err
	}
	s, err := o.service(step.Target)
	if err != nil {
		return fmt.Errorf("%w: what was started may go on running", err)
	}
	var started []string
	for _, b := range s.Backends {
		if b.Order == step.Key {
			started = append(started, b.Name)
		}
	}
	if _, err := o.execute(ctx, step, token, executor.Order{Instances: was, Was: was + len(started), Remove: started}); err != nil {
		return err
	}
	return o.adopt(ctx, step, nil, started)
}

// execute has the service's executor carry out an order, unless a later token was seen.
func (o orderer) execute(ctx context.Context, step orchestrate.Step, token uint64, order executor.Order) (executor.Result, error) {
	s, err := o.service(step.Target)
	if err != nil {
		return executor.Result{}, err
	}
	if !s.Scaling.on() {
		return executor.Result{}, tag(ErrConflict, "service %q does not scale any more", s.Name)
	}
	if err := o.fence.Admit(s.Name, token); err != nil {
		return executor.Result{}, err
	}
	by, err := o.config.executor(s.Scaling.filled(), o.keda)
	if err != nil {
		return executor.Result{}, err
	}
	order.Service, order.Reasons, order.Key, order.Token, order.Time = s.Name, step.Reasons, step.Key, token, time.Now().UTC()
	return by.Execute(ctx, order)
}

// service returns a service by its name.
func (s *scaler) service(name string) (Service, error) {
	m := s.store.Manifest()
	i, err := m.find(name)
	if err != nil {
		return Service{}, err
	}
	return m.Services[i], nil
}

// adopt adds backends to the service and removes others; what is there, or gone, already stays so. New ones are down until probes let them in.
func (s *scaler) adopt(ctx context.Context, step orchestrate.Step, add []executor.Backend, remove []string) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	var added []target
	err := s.store.Update(func(m *Manifest) error {
		for _, name := range remove {
			if err := s.rules.removeBackend(m, step.Target, name); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		for _, b := range add {
			i, err := m.find(step.Target)
			if err != nil {
				return err
			}
			service := &m.Services[i]
			desired := Backend{Name: b.Name, Address: b.Address.Unmap(), Port: b.Port, Zone: b.Zone, Rack: b.Rack, Order: step.Key}
			if desired.Port == 0 {
				desired.Port = service.Port
			}
			if slices.ContainsFunc(service.Backends, func(o Backend) bool { return o.place() == desired.place() }) {
				continue
			}
			if desired, err = s.rules.addBackend(m, step.Target, desired); err != nil {
				return fmt.Errorf("the executor started %s, which cannot be a backend: %w", b.Address, err)
			}
			if service.probed(s.rules.defaults, &desired) {
				added = append(added, target{service.Key(), desired.place()})
			}
		}
		return nil
	}, func(m Manifest) {
		s.follows.admit(added)
		s.follows.want(m)
	})
	if err == nil {
		s.follows.settled(ctx)
	}
	return err
}

// probed says that a backend is watched by probes.
func (s *Service) probed(d Defaults, b *Backend) bool {
	p := s.probe(d, b)
	return p.Kind != ProbeNone
}

// admit has backends that the next want brings be down until they rise.
func (r *reconciler) admit(targets []target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range targets {
		r.down[t] = true
	}
}

// drainer has backends finish what they have. It is an orchestrate.Actor.
type drainer struct{ *scaler }

const (
	// drainIdle is after which time without a packet a flow is over, and drainLook how often it is looked.
	drainIdle, drainLook = 15 * time.Second, 500 * time.Millisecond
)

// Do drains the backends of a step, until their flows have ended or the policy's time is over.
func (d drainer) Do(ctx context.Context, step orchestrate.Step, _ uint64) error {
	d.setDraining(step.Target, true)
	defer d.setDraining(step.Target, false)
	s, err := d.service(step.Target)
	if err != nil {
		return err
	}
	names := strings.Fields(step.Params[paramBackends])
	if err := d.setStates(ctx, s.Name, names, StateUp, StateDraining); err != nil {
		return err
	}
	most := s.Scaling.filled().Drain.duration()
	ended := time.Now().Add(most)
	idle := max(min(drainIdle, most/2), shortestIdle).Truncate(time.Millisecond)
	for time.Now().Before(ended) {
		if d.idle(s.Name, names, idle) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(drainLook, max(time.Until(ended), time.Millisecond))):
		}
	}
	return nil
}

// idle says that none of the backends has a flow. Where that cannot be known they are not.
func (d drainer) idle(service string, names []string, idle time.Duration) bool {
	for _, name := range names {
		live, err := d.flows(flowsRequest{Service: service, Backend: name, Idle: idle.String()})
		if err != nil && !errors.Is(err, ErrNotFound) || live.Flows > 0 {
			return false
		}
	}
	return true
}

// Undo has the backends take new flows again.
func (d drainer) Undo(ctx context.Context, step orchestrate.Step, _ uint64) error {
	return d.setStates(ctx, step.Target, strings.Fields(step.Params[paramBackends]), StateDraining, StateUp)
}

// setStates changes those backends that are in one state to another.
func (s *scaler) setStates(ctx context.Context, service string, names []string, from, to State) error {
	err := s.store.Update(func(m *Manifest) error {
		for _, name := range names {
			i, err := m.find(service)
			if err != nil {
				return err
			}
			b, err := m.Services[i].Backend(name)
			if err != nil || b.State != from {
				continue // it is gone, or somebody decided otherwise
			}
			if _, err := s.rules.updateBackend(m, service, name, BackendPatch{State: &to}); err != nil {
				return err
			}
		}
		return nil
	}, s.follows.want)
	if err == nil {
		s.follows.settled(ctx)
	}
	return err
}

// setDraining notes that a service's plan can be given up without harm.
func (s *scaler) setDraining(service string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc := s.services[service]; sc != nil {
		sc.draining = is
	}
}
