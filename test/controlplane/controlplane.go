// Package controlplane is what `sluice bench control` measures: what very many services and backends cost the daemon, in
// time and in memory. The real daemon runs in a network namespace; the backends are addresses of another one.
package controlplane

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/maglev"
	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run.
type Options struct {
	Executable string // the sluice program, which is started as daemon
	Services   int    // 1..MaxServices
	Backends   int    // of each service, at least 1
	Changes    int    // of each kind, in each round
	Rounds     int    // with each kind of probes, each begins with nothing
	Probes     []Probes
	Progress   io.Writer // is told what happens
}

// Probes says which probes the backends get.
type Probes string

// The kinds of probes.
const (
	NoProbes      Probes = "none"    // every backend counts as up
	DefaultProbes Probes = "default" // those of a TCP service that says nothing of probes
)

// AllProbes are the kinds of probes in the order they are measured.
var AllProbes = []Probes{NoProbes, DefaultProbes}

// Check returns what is wrong with the sizes, in one sentence.
func (o *Options) Check() error {
	switch {
	case o.Services < 1 || o.Services > MaxServices:
		return fmt.Errorf("%d services are not within 1..%d", o.Services, MaxServices)
	case o.Backends < 1:
		return fmt.Errorf("%d backends are less than 1", o.Backends)
	case o.Services*o.Backends >= dataplane.MaxBackends:
		return fmt.Errorf("%d services with %d backends are more than the %d backends that the kernel's tables can name, one of which is added and removed",
			o.Services, o.Backends, dataplane.MaxBackends)
	case o.Changes < 1:
		return fmt.Errorf("%d changes are less than 1", o.Changes)
	case o.Rounds < 1:
		return fmt.Errorf("%d rounds are less than 1", o.Rounds)
	}
	return nil
}

// MaxServices is what the daemon allows at most (limits in docs/operations.md).
const MaxServices = 65_536

// settle is how long the daemon is left alone before what it does without work to do is measured.
const settle = 5 * time.Second

// Run measures and returns what was measured. All that it makes is gone when it returns, also when ctx ends before. It
// needs root.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := stage.CheckPrivileges("the benchmark", "sluice bench control"); err != nil {
		return Report{}, err
	}
	report := Report{Services: o.Services, Backends: o.Backends, Rounds: o.Rounds, Probes: make(map[Probes]Result)}
	for _, probes := range o.Probes {
		var rounds []round
		for n := range o.Rounds {
			r, err := o.round(ctx, probes)
			if err != nil {
				return Report{}, fmt.Errorf("round %d with probes %s: %w", n+1, probes, err)
			}
			fmt.Fprintf(o.Progress, "probes %-7s %d/%d: %v\n", probes, n+1, o.Rounds, &r)
			rounds = append(rounds, r)
		}
		report.Probes[probes] = summarize(rounds)
	}
	return report, nil
}

// round is what one daemon did, from nothing to its successor.
type round struct {
	apply    time.Duration // until the API's answer
	switched int           // services with a table by then
	changes  map[Kind]*latencies
	adopt    time.Duration // from the start of the second daemon until it said that it was ready
	rebuilt  int           // services that have another table than before
	memory   [2]memory     // of the first daemon after the changes, of the second one; both left alone for a while
	idle     [2]float64    // share of a processor that they took meanwhile
}

// round makes everything from nothing, and removes it.
func (o *Options) round(ctx context.Context, probes Probes) (r round, err error) {
	s, err := newSite(o, probes)
	if err != nil {
		return r, err
	}
	defer stage.Remove(&err, s.close)
	if err := s.start(ctx); err != nil {
		return r, err
	}
	if err := s.apply(ctx, &r); err != nil {
		return r, err
	}
	if r.changes, err = s.change(ctx); err != nil {
		return r, err
	}
	if r.memory[0], r.idle[0], err = s.rest(ctx); err != nil {
		return r, err
	}
	if err := s.restart(ctx, &r); err != nil {
		return r, err
	}
	r.memory[1], r.idle[1], err = s.rest(ctx)
	return r, err
}

// spareTables is how many tables there is room for beside those in use, which a change needs until the old one is gone.
const spareTables = 64

// limits hold the services, and a backend that is added and removed, whose index is free again only after a while.
func (o *Options) limits() dataplane.Limits {
	limits := dataplane.DefaultLimits
	limits.Services = max(limits.Services, uint32(o.Services))
	limits.Backends = max(limits.Backends, uint32(o.Services*o.Backends+spareTables))
	table := maglev.Size(o.Backends+1, int(limits.TableSlots))
	limits.Slots = max(limits.Slots, uint32((o.Services+spareTables)*table))
	return limits
}
