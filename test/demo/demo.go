// Package demo is what `sluice demo` shows: a client, the balancer and four backends in network namespaces,
// real traffic of both families and protocols, and three of the backends leaving one after the other, each
// in another way.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run.
type Options struct {
	Executable string        // the sluice program, which is started as daemon and, see RunBackend, as backend
	Pace       time.Duration // from one event to the next, 0 is 5 s; at least twice failuresEnd
	Progress   io.Writer     // is told what happens
	Live       bool          // Progress is a terminal, on which a picture is kept current
}

// ErrLeftovers means that something could not be removed in the end; the message says what.
var ErrLeftovers = errors.New("the demo left something behind")

const (
	defaultPace = 5 * time.Second
	// failuresEnd is how long after a backend was lost requests may still fail, and how long after an
	// event the backend may still get new flows.
	failuresEnd = 1500 * time.Millisecond
)

// Run plays the whole demo and returns what was measured, which says in Broken whether anything was not as
// it should be. All that it makes is gone when it returns, also when ctx ends before. It needs root.
func Run(ctx context.Context, o Options) (_ Summary, err error) {
	if err := stage.CheckPrivileges("the demo", "sluice demo"); err != nil {
		return Summary{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fmt.Fprintln(o.Progress, "Making a client, the balancer, a switch and four backends in network namespaces ...")
	s, err := newSite(ctx, o.Executable)
	if err != nil {
		return Summary{}, err
	}
	defer func() {
		if left := s.Close(); left != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrLeftovers, left))
		}
	}()
	go func() {
		<-s.Daemon.Done()
		cancel(stage.Ended(s.Daemon))
	}()

	p := &play{site: s, pace: cmp.Or(o.Pace, defaultPace), settled: make(map[string]uint64)}
	fmt.Fprintln(o.Progress, "Starting traffic: new HTTP connections, UDP requests and long-lived flows, IPv4 and IPv6 ...")
	if p.flows, err = openFlows(ctx, s); err != nil {
		return Summary{}, stage.CauseOf(ctx, err)
	}
	stopLoad := p.traffic.start(ctx, s)
	stopView := watch(p, o)
	err = p.run(ctx)
	stopLoad()
	stopView()
	if err != nil {
		return Summary{}, stage.CauseOf(ctx, err)
	}
	return p.finish(ctx, time.Now())
}

// play is one run of the scenario.
type play struct {
	site    *site
	pace    time.Duration
	traffic recorder
	flows   []*flow
	settled map[string]uint64 // new flows of a backend that is gone, failuresEnd after it went
}

// run lets things happen.
func (p *play) run(ctx context.Context) error {
	if err := stage.Sleep(ctx, p.pace); err != nil {
		return err
	}
	for i, step := range []struct {
		kind Kind
		do   func(context.Context, *backend) error
	}{
		{Kill, func(_ context.Context, b *backend) error { b.process.Kill(); return nil }},
		{LinkDown, func(_ context.Context, b *backend) error { return b.host.LinkDown(uplink) }},
		{Drain, p.site.drain}, // the last one is left alone
	} {
		b := p.site.backends[i]
		p.traffic.happens(event{kind: step.kind, backend: b.name, at: time.Now()})
		if err := step.do(ctx, b); err != nil {
			return err
		}
		if err := stage.Sleep(ctx, failuresEnd); err != nil {
			return err
		}
		count, err := p.site.newFlows(ctx, b.name)
		if err != nil {
			return err
		}
		p.settled[b.name] = count
		if err := stage.Sleep(ctx, p.pace-failuresEnd); err != nil {
			return err
		}
	}
	return nil
}

// finish ends the flows and sums up.
func (p *play) finish(ctx context.Context, end time.Time) (Summary, error) {
	began, samples, events := p.traffic.all()
	summary := summarize(began, samples, events, end)
	for _, e := range events {
		count, err := p.site.newFlows(ctx, e.backend)
		if err != nil {
			return Summary{}, stage.CauseOf(ctx, err)
		}
		if late := count - p.settled[e.backend]; late > 0 {
			summary.broke("%s got %d new flows later than %v after its %s", e.backend, late, failuresEnd, e.kind)
		}
	}
	summary.addFlows(closeFlows(p.flows), events)
	return summary, nil
}

// newFlows returns how many flows a backend was given until now, by all services together.
func (s *site) newFlows(ctx context.Context, name string) (uint64, error) {
	status, err := s.Client.Status(ctx)
	if err != nil {
		return 0, err
	}
	var count uint64
	for _, service := range status.Services {
		i := slices.IndexFunc(service.Backends, func(b control.BackendStatus) bool { return b.Name == name })
		if i >= 0 {
			count += service.Backends[i].NewFlows
		}
	}
	return count, nil
}
