package packetcost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/stage"
)

// window is how long packets are waited for: a measurement ends then, with however many came.
const window = 10 * time.Second

// ErrManyCases means that the options describe more than one case.
var ErrManyCases = errors.New("what comes from outside is one kind of traffic: name one family, mode, traffic, tracking and number of flows")

// outside is an interface of this host, to which packets come from others.
type outside struct {
	Case
	handle    *netlink.Handle
	index     int
	name      string
	pins      string
	dataplane *dataplane.Dataplane
}

// RunOn measures, in the network namespace of the calling thread, with the packets that come to an interface from
// outside. The programs take turns on it, so that nothing else reaches or leaves the host there: the floors send every
// frame back to where it came from. What is in the options about the traffic is what is expected, and how many packets
// are measured at most. It needs root.
//
// Returns ErrManyCases when the options describe more than one.
func RunOn(ctx context.Context, o Options, name string) (report Report, err error) {
	cases := o.cases()
	if len(cases) != 1 {
		return Report{}, ErrManyCases
	}
	if err := stage.CheckPrivileges("the benchmark", "sluice bench dataplane"); err != nil {
		return Report{}, err
	}
	u := &outside{Case: cases[0], name: name}
	if u.handle, err = netlink.NewHandle(); err != nil {
		return Report{}, err
	}
	defer u.handle.Close()
	netdev, err := u.handle.LinkByName(name)
	if err != nil {
		return Report{}, fmt.Errorf("interface %s: %w (`ip link` lists the ones there are)", name, err)
	}
	u.index = netdev.Attrs().Index
	s, err := stage.New(labPrefix)
	if err != nil {
		return Report{}, err
	}
	defer stage.Remove(&err, func() error { return errors.Join(closeDataplane(u.dataplane, s.Pins), s.Close()) })
	u.pins = s.Pins
	if u.dataplane, err = openDataplane(s.Pins, u.Case, o.Backends); err != nil {
		return Report{}, err
	}
	fmt.Fprintf(o.Progress, "packets for %s on %s, which takes at most %v\n", services[u.Family], name, window*time.Duration(contenders*o.Rounds))
	result, err := u.rounds(ctx, o)
	if err != nil {
		return Report{}, stage.CauseOf(ctx, err)
	}
	return newReport([]outcome{result}), nil
}

// rounds measures the contenders in turns.
func (u *outside) rounds(ctx context.Context, o Options) (outcome, error) {
	result := outcome{Case: u.Case}
	for range o.Rounds {
		for lane := range int(contenders) {
			x, err := u.sample(ctx, lane, o.Packets)
			if err != nil {
				return outcome{}, fmt.Errorf("%s on %s: %w", laneNames[lane], u.name, err)
			}
			result.samples[lane] = append(result.samples[lane], x)
		}
	}
	if u.dataplane.Packets() == 0 {
		return outcome{}, fmt.Errorf("no packet came for %s", services[u.Family])
	}
	var err error
	result.remembered, err = stage.CountFlows(u.pins, u.Family == IPv6)
	return result, err
}

// sample puts a contender on the interface until so many packets have come.
func (u *outside) sample(ctx context.Context, lane, packets int) (x sample, err error) {
	detach, err := u.attach(lane)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	program, err := attached(u.handle, u.name)
	if err != nil {
		return x, err
	}
	defer program.Close()
	begin := time.Now()
	ns, runs, err := runTime(program, func() error { return awaitRuns(ctx, program, uint64(packets), begin.Add(window)) })
	return sample{ns: ns, mpps: float64(runs) / time.Since(begin).Seconds() / 1e6}, err
}

// awaitRuns waits until a program has run so many times more, or for the deadline.
func awaitRuns(ctx context.Context, program *ebpf.Program, runs uint64, deadline time.Time) error {
	before, err := program.Stats()
	if err != nil {
		return err
	}
	for now := before; now.RunCount < before.RunCount+runs && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if now, err = program.Stats(); err != nil {
			return err
		}
	}
	return nil
}

// attach puts a contender on the interface and returns what takes it off.
func (u *outside) attach(lane int) (detach func() error, err error) {
	var l link.Link
	switch lane {
	case laneBalancer:
		_, err = u.dataplane.Attach(u.name, dataplane.XDPNative)
		return func() error { return u.dataplane.Detach(u.name) }, err
	case laneEmpty:
		l, err = generator.AttachEmpty(u.index)
	default:
		l, err = generator.AttachEncapsulator(u.index, u.Family == IPv6)
	}
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}
