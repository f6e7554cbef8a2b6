package generator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/test/lab"
)

// bench is two hosts and a link between them: one sends, the other one sends back.
type bench struct {
	near, far *lab.Host
	options   Options // all but what the packets are
	farIndex  int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	l := lab.ForTest(t)
	near, err := l.Host("near")
	must(t, err)
	far, err := l.Host("far")
	must(t, err)
	must(t, errors.Join(
		near.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"), // neither says anything by itself
		far.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"),
		l.Connect(near, "eth0", far, "eth0", lab.LinkOptions{MTU: 1600}),
	))
	nearLink, err := near.Netlink().LinkByName("eth0")
	must(t, err)
	farLink, err := far.Netlink().LinkByName("eth0")
	must(t, err)
	return &bench{near: near, far: far, farIndex: farLink.Attrs().Index, options: Options{
		Index: nearLink.Attrs().Index, LocalMAC: nearLink.Attrs().HardwareAddr, MAC: farLink.Attrs().HardwareAddr,
	}}
}

// send sends so many packets.
func (b *bench) send(t *testing.T, o Options, packets int) *Generator {
	t.Helper()
	g, err := New(o)
	must(t, err)
	t.Cleanup(func() { must(t, g.Close()) })
	must(t, b.near.Do(func() error {
		_, err := g.Send(t.Context(), packets)
		return err
	}))
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var targets = map[string]netip.AddrPort{
	"ipv4": netip.MustParseAddrPort("192.0.2.10:80"), "ipv6": netip.MustParseAddrPort("[2001:db8::10]:80"),
}

// The packets of every kind are what they should be, to the checksum, though their frames are used again and again after
// another program has written into them: they come back in the header of the second floor. No flow comes more often than
// another. (Their order is not looked at: the socket gets what has data later than what has none, from GRO.)
func TestPackets(t *testing.T) {
	const flows, packets = 1000, 3000
	b := newBench(t)
	for family, target := range targets {
		for _, kind := range Kinds {
			t.Run(family+" "+string(kind), func(t *testing.T) {
				o := b.options
				o.Kind, o.Flows, o.Target = kind, flows, target
				b.passBack(t, target.Addr().Is6())
				frames := b.listen(t)
				b.send(t, o, packets)
				seen := make(map[string]int)
				sizes := make(map[int]int)
				for range packets {
					flow, size := o.check(t, frames.next(t))
					seen[flow]++
					sizes[size]++
				}
				for flow, times := range seen {
					if times != packets/flows {
						t.Fatalf("the flow %s came %d times, want %d", flow, times, packets/flows)
					}
				}
				small := int(o.lengths()[0])
				want := map[int]int{small: packets}
				if kind == Mix {
					want = map[int]int{small: packets * 7 / 12, 576: packets * 4 / 12, 1500: packets / 12}
				}
				if fmt.Sprint(sizes) != fmt.Sprint(want) {
					t.Errorf("packets by their size: %v, want %v", sizes, want)
				}
			})
		}
	}
}

// passBack has the far end encapsulate, and the near end take what comes back.
func (b *bench) passBack(t *testing.T, ipv6 bool) {
	t.Helper()
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
		License:      "Dual MIT/GPL",
	})
	must(t, err)
	must(t, b.near.Do(func() error {
		l, err := attach(pass, b.options.Index)
		if err == nil {
			t.Cleanup(func() { must(t, l.Close()) })
		}
		return err
	}))
	must(t, b.far.Do(func() error {
		l, err := AttachEncapsulator(b.farIndex, ipv6)
		if err == nil {
			t.Cleanup(func() { must(t, l.Close()) })
		}
		return err
	}))
}

// check wants a packet of the options in the header of the second floor, and returns its flow and size.
func (o *Options) check(t *testing.T, frame []byte) (flow string, size int) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{})
	outer := p.Layers()[1].(*layers.IPv4)
	if outer.SrcIP.String() != "192.0.2.1" || outer.DstIP.String() != "192.0.2.2" || outer.TTL != 64 {
		t.Fatalf("the outer header is of another packet:\n%s", p.Dump())
	}
	network := p.Layers()[2]
	must(t, p.Layers()[3].(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}).SetNetworkLayerForChecksum(network.(gopacket.NetworkLayer)))
	if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Fatalf("checksums are wrong: %v %v\n%s", err, wrong, p.Dump())
	}
	size = len(network.LayerContents()) + len(network.LayerPayload())
	inner := network.(gopacket.NetworkLayer).NetworkFlow()
	client := FirstClient4
	if o.Target.Addr().Is6() {
		client = FirstClient6
	}
	number := 0
	for a, _ := netip.AddrFromSlice(inner.Src().Raw()); client.Less(a); client = client.Next() {
		number++
	}
	if number >= o.Flows || inner.Dst().String() != o.Target.Addr().String() {
		t.Fatalf("a packet from %s to %s", inner.Src(), inner.Dst())
	}
	var sport, dport uint16
	switch l4 := p.Layers()[3].(type) {
	case *layers.TCP:
		sport, dport = uint16(l4.SrcPort), uint16(l4.DstPort)
		if l4.SYN != (o.Kind == SYN) || l4.ACK == l4.SYN || l4.FIN || l4.RST || l4.DataOffset != 5 {
			t.Fatalf("another segment than one of kind %s:\n%s", o.Kind, p.Dump())
		}
	case *layers.UDP:
		sport, dport = uint16(l4.SrcPort), uint16(l4.DstPort)
	}
	if (p.Layer(layers.LayerTypeUDP) != nil) != (o.Kind == UDP) || sport != uint16(1024+number) || dport != o.Target.Port() {
		t.Fatalf("the flow %d is from port %d to %d:\n%s", number, sport, dport, p.Dump())
	}
	return inner.Src().String(), size
}

// listener reads frames of a host's interface.
type listener struct{ fd int }

func (b *bench) listen(t *testing.T) *listener {
	t.Helper()
	const all = 0x0300 // ETH_P_ALL in network byte order
	l := new(listener)
	must(t, b.near.Do(func() (err error) {
		l.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		return err
	}))
	t.Cleanup(func() { unix.Close(l.fd) })
	patience := unix.NsecToTimeval(int64(10 * time.Second))
	must(t, errors.Join(
		unix.Bind(l.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: b.options.Index}),
		unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
	))
	return l
}

func (l *listener) next(t *testing.T) []byte {
	t.Helper()
	frame := make([]byte, 2048)
	n, _, err := unix.Recvfrom(l.fd, frame, 0)
	for errors.Is(err, unix.EINTR) {
		n, _, err = unix.Recvfrom(l.fd, frame, 0)
	}
	if err != nil {
		t.Fatalf("the next frame does not come: %v", err)
	}
	return frame[:n]
}

// What goes back as it came is counted at the sink, without a loss.
func TestSink(t *testing.T) {
	b := newBench(t)
	var sink *Sink
	must(t, b.near.Do(func() (err error) {
		sink, err = AttachSink(b.options.Index)
		return err
	}))
	defer sink.Close()
	must(t, b.far.Do(func() error {
		l, err := AttachEmpty(b.farIndex)
		if err == nil {
			t.Cleanup(func() { must(t, l.Close()) })
		}
		return err
	}))
	o := b.options
	o.Kind, o.Flows, o.Target = ACK, 7, targets["ipv4"]
	for _, o.Rate = range []int{0, 10_000} {
		before, err := sink.Received()
		must(t, err)
		sent, err := b.send(t, o, 1000).Sent()
		must(t, err)
		after, err := sink.Received()
		must(t, err)
		if sent != 1000 || after-before != sent {
			t.Errorf("rate %d: %d were sent and %d came", o.Rate, sent, after-before)
		}
	}
}

func TestStoppedGenerator(t *testing.T) {
	o := Options{Kind: ACK, Flows: 1, Target: targets["ipv4"]}
	g, err := New(o)
	must(t, err)
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Send(ctx, 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestImpossibleFlows(t *testing.T) {
	for _, flows := range []int{0, MaxFlows + 1} {
		if _, err := New(Options{Kind: ACK, Flows: flows, Target: targets["ipv4"]}); err == nil {
			t.Errorf("%d flows are possible", flows)
		}
	}
}

// Steps visit all flows, whatever their number.
func TestStride(t *testing.T) {
	for _, flows := range []uint32{1, 2, 3, 4, 6, 30, 997, 1000, 65536} {
		step, at := stride(flows), uint32(0)
		if step == 0 || step > flows {
			t.Fatalf("stride of %d flows is %d", flows, step)
		}
		seen := make(map[uint32]bool)
		for range flows {
			seen[at] = true
			at = (at + step) % flows
		}
		if len(seen) != int(flows) {
			t.Errorf("steps of %d meet %d of %d flows", step, len(seen), flows)
		}
	}
}
