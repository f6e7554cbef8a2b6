// Package generator makes traffic for benchmarks, inside the kernel and as fast as that goes: BPF_PROG_TEST_RUN has an
// XDP program write one frame after the other and sends them out of an interface. It also has what stands at the ends:
// a sink, and programs to compare others with. Nothing of it is for a network that others use.
package generator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Kind is what packets there are.
type Kind string

// The kinds.
const (
	ACK Kind = "ack" // of TCP connections, without data
	SYN Kind = "syn" // each from another client: a flood
	UDP Kind = "udp" // datagrams without data
	Mix Kind = "mix" // segments of TCP connections, IP packets of 40, 576 and 1500 bytes, 7:4:1 ("simple IMIX")
)

// Kinds are all kinds.
var Kinds = []Kind{ACK, SYN, UDP, Mix}

// Protocol is the number of the transport protocol.
func (k Kind) Protocol() uint8 {
	if k == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// The clients' addresses: a flow has the first one plus its number.
var (
	FirstClient4 = netip.MustParseAddr("10.0.0.1")
	FirstClient6 = netip.MustParseAddr("2001:db8:1::1")
)

// MaxFlows is how many clients there can be.
const MaxFlows = 1<<24 - 2

// Options of New.
type Options struct {
	Kind     Kind
	Flows    int            // different ones, 1..MaxFlows, each from an address of its own
	Target   netip.AddrPort // of every packet
	Index    int            // of the interface that packets leave by; it must have an XDP program, such as the sink
	LocalMAC net.HardwareAddr
	MAC      net.HardwareAddr // of the other end
	Rate     int              // packets per second, MinRate or more; 0: as many as the processor makes
}

// MinRate is the lowest rate that is held.
const MinRate = 1000

// Generator sends packets. Not safe for concurrent use.
type Generator struct {
	options Options
	objects struct {
		Generate *ebpf.Program `ebpf:"generate"`
		objectVariables
	}
}

// New loads a generator, which begins with the first flow.
func New(o Options) (*Generator, error) {
	if o.Flows < 1 || o.Flows > MaxFlows {
		return nil, fmt.Errorf("%d flows: possible are 1 to %d", o.Flows, MaxFlows)
	}
	if o.Rate != 0 && o.Rate < MinRate {
		return nil, fmt.Errorf("%d packets per second: the lowest rate is %d", o.Rate, MinRate)
	}
	g := &Generator{options: o}
	if err := load(&g.objects, o.pattern()); err != nil {
		return nil, err
	}
	return g, nil
}

// Close unloads it.
func (g *Generator) Close() error { return g.objects.Generate.Close() }

// Sent returns how many packets were sent.
func (g *Generator) Sent() (sent uint64, err error) {
	err = g.objects.Sent.Get(&sent)
	return sent, err
}

// An interrupt is noticed after so many packets, or after batchTime where a rate is held.
const (
	batch     = 1 << 20
	batchTime = 300 * time.Millisecond
)

// Send sends so many packets, or some more where a signal interrupts it; it goes on with the flow after the last one.
// It returns how many went out in a second, without what the kernel needs to begin and to end; 0 for less than 128.
// The calling thread must be in the network namespace of the interface. What the other end has no room for is lost.
func (g *Generator) Send(ctx context.Context, packets int) (rate float64, err error) {
	size := batch
	if g.options.Rate > 0 {
		size = max(1, min(size, int(float64(g.options.Rate)*batchTime.Seconds())))
	}
	var sent uint64
	var took time.Duration
	for done := 0; done < packets; done += size {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, t, err := g.run(min(size, packets-done))
		if err != nil {
			return 0, fmt.Errorf("sending: %w", err)
		}
		sent, took = sent+n, took+t
	}
	if took == 0 {
		return 0, nil
	}
	return float64(sent) / took.Seconds(), nil
}

// run has the kernel make and send so many frames. It returns how long it took for how many of them.
func (g *Generator) run(packets int) (timed uint64, took time.Duration, err error) {
	o := &g.objects
	if err := errors.Join(o.Due.Set(uint64(0)), o.FirstTime.Set(uint64(0)), o.LastTime.Set(uint64(0))); err != nil {
		return 0, 0, err
	}
	frame := make([]byte, 60) // ETH_ZLEN (include/uapi/linux/if_ether.h); the program changes it as it needs
	_, err = o.Generate.Run(&ebpf.RunOptions{
		Data:      frame,
		Context:   xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(g.options.Index)},
		Repeat:    uint32(packets),
		Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		BatchSize: g.options.together(),
	})
	if err != nil {
		return 0, 0, err
	}
	var firstTime, firstSent, lastTime, lastSent uint64
	err = errors.Join(o.FirstTime.Get(&firstTime), o.FirstSent.Get(&firstSent), o.LastTime.Get(&lastTime), o.LastSent.Get(&lastSent))
	return lastSent - firstSent, time.Duration(lastTime - firstTime), err
}

// together is how many frames go out at once: as many as a driver polls for (NAPI_POLL_WEIGHT of
// include/linux/netdevice.h), or what comes in a millisecond.
func (o *Options) together() uint32 {
	const weight = 64
	if o.Rate == 0 {
		return weight
	}
	return uint32(min(weight, max(1, o.Rate/1000)))
}

// xdpContext is struct xdp_md.
type xdpContext struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// The flags octet of the TCP header (RFC 9293, section 3.1).
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// pattern is what the program is told.
func (o *Options) pattern() objectPattern {
	p := objectPattern{
		Destination: words(o.Target.Addr()),
		Source:      words(FirstClient4),
		Port:        binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, o.Target.Port())),
		Protocol:    o.Kind.Protocol(),
		TcpFlags:    flagACK,
		Lengths:     o.lengths(),
		Flows:       uint32(o.Flows),
		Stride:      stride(uint32(o.Flows)),
	}
	if o.Rate > 0 {
		p.Interval = uint32(time.Second / time.Duration(o.Rate))
	}
	if o.Target.Addr().Is6() {
		p.Ipv6, p.Source = 1, words(FirstClient6)
	}
	if o.Kind == SYN {
		p.TcpFlags = flagSYN
	}
	copy(p.Mac[:], o.MAC)
	copy(p.LocalMac[:], o.LocalMAC)
	return p
}

// lengths are those of the IP packets, by turns.
func (o *Options) lengths() (lengths [12]uint16) {
	small := uint16(20 + 20)
	if o.Kind == UDP {
		small = 20 + 8
	}
	if o.Target.Addr().Is6() {
		small += 20
	}
	for i := range lengths {
		lengths[i] = small
	}
	if o.Kind == Mix {
		lengths[1], lengths[4], lengths[8], lengths[10] = 576, 576, 576, 576
		lengths[6] = 1500
	}
	return lengths
}

// stride returns the number next to the golden section of flows that has no divisor in common with it: by steps of so
// many every flow comes once before the first comes again, and neighbours are far apart.
func stride(flows uint32) uint32 {
	const golden = 0.6180339887498949
	for s := uint32(golden * float64(flows)); s > 0; s-- {
		a, b := flows, s
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return s
		}
	}
	return flows // of 1
}

// words is an address as the program holds it.
func words(address netip.Addr) (w [4]uint32) {
	bytes := address.AsSlice()
	for i := range len(bytes) / 4 {
		w[i] = binary.NativeEndian.Uint32(bytes[4*i:])
	}
	return w
}
