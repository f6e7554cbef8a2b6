package packetcost

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/lab"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Mode nat and UDP are tracked in full, and have one row for all that was asked for.
func TestCases(t *testing.T) {
	o := Options{
		Families: []Family{IPv4}, Modes: []dataplane.Mode{dataplane.ModeIPIP, dataplane.ModeNAT},
		Traffic:   []generator.Kind{generator.ACK, generator.UDP},
		Trackings: []dataplane.Tracking{dataplane.TrackingJustEnough, dataplane.TrackingFull}, Flows: []int{1, 10},
	}
	var got []string
	for _, c := range o.cases() {
		got = append(got, c.String())
	}
	want := []string{
		"ipv4 ipip ack just-enough, 1 flows", "ipv4 ipip ack just-enough, 10 flows",
		"ipv4 ipip ack full, 1 flows", "ipv4 ipip ack full, 10 flows",
		"ipv4 ipip udp full, 1 flows", "ipv4 ipip udp full, 10 flows",
		"ipv4 nat ack full, 1 flows", "ipv4 nat ack full, 10 flows",
		"ipv4 nat udp full, 1 flows", "ipv4 nat udp full, 10 flows",
	}
	if !slices.Equal(got, want) {
		t.Errorf("cases are %q", got)
	}
}

// short are options of a run that takes little time.
func short() Options {
	return Options{
		Families: []Family{IPv4}, Modes: []dataplane.Mode{dataplane.ModeIPIP}, Traffic: []generator.Kind{generator.ACK},
		Trackings: []dataplane.Tracking{dataplane.TrackingJustEnough}, Flows: []int{1000},
		Backends: 100, Packets: 2000, Rounds: 3, Progress: io.Discard,
	}
}

// A run has a row for each case, and figures that go together; a flood leaves nothing in the flow table unless every flow
// is remembered. Nothing is left behind.
func TestRun(t *testing.T) {
	o := short()
	o.Traffic = []generator.Kind{generator.SYN, generator.Mix}
	o.Trackings = append(o.Trackings, dataplane.TrackingFull)
	report, err := Run(t.Context(), o)
	must(t, err)
	report.check(t, o)
	o = short()
	o.Families, o.Modes = []Family{IPv6}, []dataplane.Mode{dataplane.ModeNAT}
	o.Traffic = []generator.Kind{generator.UDP}
	report, err = Run(t.Context(), o)
	must(t, err)
	report.check(t, o)
	for _, pattern := range Traces(os.Getpid()) {
		if names, err := filepath.Glob(pattern); err != nil || len(names) > 0 {
			t.Errorf("%v is left (%v)", names, err)
		}
	}
}

// check wants a report of the options' cases.
func (r *Report) check(t *testing.T, o Options) {
	t.Helper()
	if r.EmptyNS <= 0 || r.EncapNS <= 0 || r.EmptyMpps <= 0 || r.EncapMpps <= 0 {
		t.Errorf("the floors are %+v", r)
	}
	cases := o.cases()
	if len(r.Rows) != len(cases) {
		t.Fatalf("%d rows, want %d", len(r.Rows), len(cases))
	}
	for i, row := range r.Rows {
		remembered := 0
		if row.Tracking == dataplane.TrackingFull {
			remembered = row.Flows
		}
		if row.Case != cases[i] || row.NS <= 0 || row.Mpps <= 0 || row.Spread < 0 || row.Remembered != remembered {
			t.Errorf("a row is %+v, want one of %s with %d remembered flows", row, cases[i], remembered)
		}
		if math.Abs(row.Ratio-row.NS/r.EmptyNS) > 0.001 || math.Abs(row.NetNS-(row.NS-r.EmptyNS)) > 0.1 {
			t.Errorf("%+v does not go with an empty program of %v ns", row, r.EmptyNS)
		}
	}
}

// What the generator sends is what the balancer counts and what arrives at the sink, in every mode.
func TestNothingIsLost(t *testing.T) {
	const packets = 10_000
	s, err := newSite()
	must(t, err)
	defer func() { must(t, s.close()) }()
	for _, mode := range []dataplane.Mode{dataplane.ModeNAT, dataplane.ModeL2, dataplane.ModeIPIP, dataplane.ModeGUE} {
		u, err := s.prepare(Case{IPv4, mode, generator.Mix, dataplane.TrackingFull, 1000}, 100)
		must(t, err)
		g, err := u.generator(laneBalancer, generator.SYN, 0)
		must(t, err)
		before, err := s.lanes[laneBalancer].sink.Received()
		must(t, err)
		must(t, s.near.Do(func() error {
			_, err := g.Send(t.Context(), packets)
			return err
		}))
		after, err := s.lanes[laneBalancer].sink.Received()
		must(t, err)
		sent, err := g.Sent()
		must(t, err)
		if forwarded := u.dataplane.Packets(); sent < packets || forwarded != sent || after-before != sent {
			t.Errorf("%s: %d packets were sent, %d forwarded and %d came", mode, sent, forwarded, after-before)
		}
		must(t, errors.Join(g.Close(), u.close()))
	}
}

// Packets that the balancer does not forward are no figure but an error which says what became of them: one backend in
// mode nat has not enough ports for all flows.
func TestNotForwarded(t *testing.T) {
	o := short()
	o.Modes, o.Backends, o.Flows, o.Packets = []dataplane.Mode{dataplane.ModeNAT}, 1, []int{200_000}, 200_000
	_, err := Run(t.Context(), o)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("drop_nat_ports_exhausted")) {
		t.Errorf("it ended with %v", err)
	}
}

// What comes to an interface from elsewhere is measured there, and the interface is free again afterwards.
func TestRunOn(t *testing.T) {
	l := lab.ForTest(t)
	near, err := l.Host("near")
	must(t, err)
	far, err := l.Host("far")
	must(t, err)
	must(t, errors.Join(
		l.Connect(near, "eth0", far, "eth0", lab.LinkOptions{MAC: nearMAC, PeerMAC: farMAC, MTU: mtu}),
		far.Addr("eth0", balancer4),
		near.Addr("eth0", gateway4+"/24"),
		far.Route(backendNets[IPv4].String(), gateway4),
	))
	netdev, err := far.Netlink().LinkByName("eth0")
	must(t, err)
	must(t, far.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: netdev.Attrs().Index, IP: net.ParseIP(gateway4), HardwareAddr: nearMAC, State: netlink.NUD_PERMANENT,
	}))
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error)
	go func() { sent <- near.Do(func() error { return flood(ctx, near) }) }()
	var report Report
	o := short()
	err = far.Do(func() (err error) {
		report, err = RunOn(ctx, o, "eth0")
		return err
	})
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("the generator ended with %v", err)
	}
	must(t, err)
	report.check(t, o)
	if netdev, err = far.Netlink().LinkByName("eth0"); err != nil || netdev.Attrs().Xdp != nil && netdev.Attrs().Xdp.Attached {
		t.Errorf("a program is left (%v)", err)
	}
}

// flood sends to the far end until ctx ends.
func flood(ctx context.Context, near *lab.Host) (err error) {
	netdev, err := near.Netlink().LinkByName("eth0")
	if err != nil {
		return err
	}
	index := netdev.Attrs().Index
	sink, err := generator.AttachSink(index)
	if err != nil {
		return err
	}
	g, err := generator.New(generator.Options{
		Kind: generator.ACK, Flows: 1000, Target: services[IPv4], Index: index, LocalMAC: nearMAC, MAC: farMAC, Rate: 50_000,
	})
	if err != nil {
		return err
	}
	for err == nil {
		_, err = g.Send(ctx, 10_000)
	}
	return errors.Join(err, g.Close(), sink.Close())
}

func TestManyCases(t *testing.T) {
	o := short()
	o.Flows = []int{1, 2}
	if _, err := RunOn(t.Context(), o, "lo"); !errors.Is(err, ErrManyCases) {
		t.Errorf("it ended with %v", err)
	}
}
