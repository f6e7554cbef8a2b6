// Package failover is what `sluice bench failover` measures: how long it takes until a backend that fails, in one of
// several ways, gets no new connections any more, what clients notice of it, and that nobody else does. The real
// daemon, real servers and real clients are in network namespaces of their own.
package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run and FalseEjections.
type Options struct {
	Executable string   // the sluice program, which is started as daemon and, see RunBackend, as backend
	Profiles   []string // of probes, among Profiles
	Faults     []Fault
	Trials     int            // of each fault and profile
	Mode       dataplane.Mode // of the service
	HAProxy    bool           // is compared, where it is installed
	Progress   io.Writer      // is told what happens
}

// usualTrial is about how long a trial takes that is detected soon.
const usualTrial = 4 * time.Second

// Run makes all trials and returns what was measured. All that it makes is gone when it returns, also when ctx ends
// before. It needs root.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Profiles: make(map[string]map[Fault]Result)}
	compared := comparison(o)
	total := o.Trials * (len(o.Profiles)*len(o.Faults) + len(compared))
	fmt.Fprintf(o.Progress, "%d trials, which take about %v, and %v more for each that is not detected\n",
		total, time.Duration(total)*usualTrial, detectWithin)
	for _, profile := range o.Profiles {
		results, err := o.measure(ctx, profile, o.Mode, o.Faults, o.contend(profile))
		if err != nil {
			return Report{}, err
		}
		report.Profiles[profile] = results
	}
	if len(compared) > 0 {
		results, err := o.measure(ctx, "haproxy", dataplane.ModeNAT, compared,
			func(s *site) contender { return &haproxy{site: s} })
		if err != nil {
			return Report{}, err
		}
		report.HAProxy = results
	}
	return report, nil
}

// comparison returns the faults that HAProxy is measured for too.
func comparison(o Options) []Fault {
	if !o.HAProxy || stage.FindProgram("haproxy") == "" {
		return nil
	}
	var faults []Fault
	for _, f := range o.Faults {
		if f == Kill || f == Silent {
			faults = append(faults, f)
		}
	}
	return faults
}

// contend makes Sluice the contender.
func (o Options) contend(profile string) func(*site) contender {
	return func(s *site) contender { return &sluice{site: s, executable: o.Executable, profile: profile} }
}

// measure makes the trials of one contender, of each fault by turns on every backend.
func (o Options) measure(ctx context.Context, name string, mode dataplane.Mode, faults []Fault, contend func(*site) contender) (map[Fault]Result, error) {
	results := make(map[Fault]Result)
	err := o.onSite(ctx, mode, contend, func(ctx context.Context, b *bench) error {
		for _, f := range faults {
			var trials []trial
			for n := range o.Trials {
				victim := b.site.backends[n%backendCount]
				t, err := b.try(ctx, f, victim)
				if err != nil {
					return fmt.Errorf("%s, trial %d of the fault %s: %w", name, n+1, f, err)
				}
				fmt.Fprintf(o.Progress, "%-8s %-10s %3d/%d  %s: %v\n", name, f, n+1, o.Trials, victim.name, t)
				trials = append(trials, t)
			}
			results[f] = summarize(trials)
		}
		return nil
	})
	return results, err
}

// onSite does something on a site of its own with traffic.
func (o Options) onSite(ctx context.Context, mode dataplane.Mode, contend func(*site) contender, do func(context.Context, *bench) error) (err error) {
	if err := stage.CheckPrivileges("the benchmark", "sluice bench failover"); err != nil {
		return err
	}
	// Garbage is collected between trials.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := newSite(ctx, o.Executable, mode, backendCount, contend)
	if err != nil {
		return stage.CauseOf(ctx, err)
	}
	defer stage.Remove(&err, s.close)
	go func() {
		<-s.contender.process().Done()
		cancel(stage.Ended(s.contender.process()))
	}()
	b, err := startTraffic(ctx, s)
	if err == nil {
		err = errors.Join(do(ctx, b), b.stopTraffic())
	}
	if err != nil {
		return stage.CauseOf(ctx, err)
	}
	return nil
}
