// Package p2c is what `sluice bench p2c` measures: what the power of two choices (`policy: p2c`) does to the time of
// requests when one backend is slower than the others, compared with plain Maglev, and how many flows it remembers for
// that. The real daemon, real servers and a real client are in network namespaces of their own.
package p2c

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run.
type Options struct {
	Executable string         // the sluice program, which is started as daemon
	Mode       dataplane.Mode // of the service
	Probe      probe.Kind     // of the service
	Backends   int            // 2..stage.MaxBackends
	Slow       float64        // how many times longer one of them takes, >= 1
	Rate       float64        // requests a second on average, > 0
	Duration   time.Duration  // of one round, for at most MostRequests and LongestRound
	Rounds     int            // of each policy
	Progress   io.Writer      // is told what happens
}

const (
	// Each backend is a single worker, as in Mitzenmacher's model, whose requests take an exponential time with this
	// mean: long against what a connection costs here, 0.25 ms of a processor.
	serviceTime = 4 * time.Millisecond
	// MostRequests of a round: each has a port of its own, and the flow table has room for twice as many.
	MostRequests = 32_000
	// LongestRound is shorter than what the daemon forgets closed flows after, 60 s.
	LongestRound = 50 * time.Second
	// preparation is about what a round takes besides.
	preparation = 4 * time.Second
)

// Capacity returns how many requests a second the backends can serve together.
func (o Options) Capacity() float64 {
	return (float64(o.Backends-1) + 1/o.Slow) / serviceTime.Seconds()
}

// slowBusy returns which part of the time the slow backend is busy when it gets an equal share; from 1 on its queue grows.
func (o Options) slowBusy() float64 {
	return o.Rate / float64(o.Backends) * serviceTime.Seconds() * o.Slow
}

// policies are compared, in the order of their rounds.
var policies = []dataplane.Policy{dataplane.PolicyMaglev, dataplane.PolicyP2C}

// Run makes all rounds, of the policies by turns, and returns what was measured. All that it makes is gone when it
// returns, also when ctx ends before. It needs root.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := stage.CheckPrivileges("the benchmark", "sluice bench p2c"); err != nil {
		return Report{}, err
	}
	// Garbage is collected between rounds.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30))
	total := len(policies) * o.Rounds
	fmt.Fprintf(o.Progress, "%d rounds, which take about %v\n", total, time.Duration(total)*(o.Duration+preparation))
	rounds := make(map[dataplane.Policy][]round)
	for n := range o.Rounds {
		for _, policy := range policies {
			runtime.GC()
			r, err := o.round(ctx, policy, uint64(n))
			if err != nil {
				return Report{}, fmt.Errorf("round %d of %s: %w", n+1, policy, err)
			}
			fmt.Fprintf(o.Progress, "%-6s %3d/%d  %v\n", policy, n+1, o.Rounds, r)
			if late := r.late(); float64(late) > lateAllowed*float64(len(r.requests)) {
				fmt.Fprintf(o.Progress, "warning: %d of %d requests began more than %v after they were due: "+
					"this machine is too busy for its figures to tell; lower --rate, or try again on a quiet one\n",
					late, len(r.requests), lateAfter)
			}
			if r.unequal != nil {
				fmt.Fprintf(o.Progress, "note: weights differed in the end: %v\n", r.unequal)
			}
			rounds[policy] = append(rounds[policy], r)
		}
	}
	return o.summarize(rounds), nil
}
