package packetcost

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/stage"
)

// sample is one measurement of one contender.
type sample struct {
	ns   float64 // of the program for one packet, with what measuring costs
	mpps float64 // millions of packets that come to the sink in a second, while nothing else is measured
}

// outcome is what was measured of one case, a sample a round.
type outcome struct {
	Case
	samples    [contenders][]sample
	remembered int
}

// measure measures one case.
func (s *site) measure(ctx context.Context, o Options, c Case) (result outcome, err error) {
	u, err := s.prepare(c, o.Backends)
	if err != nil {
		return outcome{}, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	result.Case = c
	err = s.near.Do(func() error {
		return onOneProcessor(func() error { return u.rounds(ctx, o, &result) })
	})
	if err == nil {
		result.remembered, err = stage.CountFlows(u.Pins, u.Family == IPv6)
	}
	return result, err
}

// onOneProcessor keeps the calling thread, and with it the whole way of each packet, on one processor. The goroutine must
// be locked to it.
func onOneProcessor(f func() error) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	last := 0 // the first processors have most of the interrupts
	for n := range 8 * len(all) * int(unix.SizeofPtr) {
		if all.IsSet(n) {
			last = n
		}
	}
	one.Set(last)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("staying on processor %d: %w", last, err)
	}
	defer unix.SchedSetaffinity(0, &all)
	return f()
}

// rounds warms up and measures the contenders in turns.
func (u *setup) rounds(ctx context.Context, o Options, result *outcome) error {
	if err := u.warmUp(ctx); err != nil {
		return err
	}
	var generators [contenders]*generator.Generator
	for i := range generators {
		g, err := u.generator(i, u.Traffic, o.Rate)
		if err != nil {
			return err
		}
		defer g.Close()
		generators[i] = g
	}
	runtime.GC() // not while it is measured
	before := u.dataplane.Packets()
	for range o.Rounds {
		for i, g := range generators {
			x, err := u.sample(ctx, i, g, o.Packets)
			if err != nil {
				return err
			}
			result.samples[i] = append(result.samples[i], x)
		}
	}
	return u.checkForwarded(generators[laneBalancer], before)
}

// generator makes one for a lane.
func (u *setup) generator(lane int, kind generator.Kind, rate int) (*generator.Generator, error) {
	return generator.New(generator.Options{
		Kind: kind, Flows: u.Flows, Target: services[u.Family], Rate: rate,
		Index: u.lanes[lane].near, LocalMAC: nearMAC, MAC: farMAC,
	})
}

// warmUp has every flow pass once, after its SYN where connections are remembered.
func (u *setup) warmUp(ctx context.Context) error {
	kinds := []generator.Kind{u.Traffic}
	if u.Tracking == dataplane.TrackingFull && (u.Traffic == generator.ACK || u.Traffic == generator.Mix) {
		kinds = []generator.Kind{generator.SYN, u.Traffic}
	}
	for _, kind := range kinds {
		g, err := u.generator(laneBalancer, kind, 0)
		if err != nil {
			return err
		}
		_, err = g.Send(ctx, u.Flows)
		if err := errors.Join(err, g.Close()); err != nil {
			return err
		}
	}
	return nil
}

// sample measures a contender twice, since the kernel's statistics slow down what they measure.
func (u *setup) sample(ctx context.Context, lane int, g *generator.Generator, packets int) (x sample, err error) {
	x.ns, _, err = runTime(u.programs[lane], func() error {
		_, err := g.Send(ctx, packets)
		return err
	})
	if err != nil {
		return x, err
	}
	sink := u.lanes[lane].sink
	received, err1 := sink.Received()
	sent, err2 := g.Sent()
	rate, err := g.Send(ctx, packets)
	if err := errors.Join(err1, err2, err); err != nil {
		return x, err
	}
	arrived, err1 := sink.Received()
	left, err2 := g.Sent()
	x.mpps = rate / 1e6 * float64(arrived-received) / float64(left-sent)
	return x, errors.Join(err1, err2)
}

// runTime returns how often a program runs during f, and how long it takes on average, ns.
func runTime(program *ebpf.Program, f func() error) (ns float64, runs uint64, err error) {
	stop, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return 0, 0, fmt.Errorf("having the kernel measure programs: %w", err)
	}
	defer stop.Close()
	before, err := program.Stats()
	if err != nil {
		return 0, 0, err
	}
	if err := f(); err != nil {
		return 0, 0, err
	}
	after, err := program.Stats()
	if err != nil {
		return 0, 0, err
	}
	runs = after.RunCount - before.RunCount
	if runs == 0 {
		return 0, 0, fmt.Errorf("%s saw no packet", program)
	}
	return float64((after.Runtime - before.Runtime).Nanoseconds()) / float64(runs), runs, nil
}

// tolerated is the part of all packets, 0..1, that may be lost before they come to the balancer.
const tolerated = 0.01

// checkForwarded wants that the balancer has sent all packets to a backend: otherwise something else was measured. before
// is how many it had sent when the generator began.
func (u *setup) checkForwarded(g *generator.Generator, before uint64) error {
	sent, err := g.Sent()
	if err != nil {
		return err
	}
	reasons, err := u.dataplane.Reasons()
	if err != nil {
		return err
	}
	var others []string
	for name, count := range reasons {
		if count > 0 {
			others = append(others, fmt.Sprintf("%d %s", count, name))
		}
	}
	forwarded := u.dataplane.Packets() - before
	if float64(forwarded) < float64(sent)*(1-tolerated) {
		slices.Sort(others)
		return fmt.Errorf("%d of %d packets went to a backend; others: %s", forwarded, sent, strings.Join(others, ", "))
	}
	return nil
}
