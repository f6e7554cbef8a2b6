// Package generator makes traffic for benchmarks, inside the kernel and as fast as that goes: BPF_PROG_TEST_RUN has an
// XDP program write one frame after the other and sends them out of an interface. It also has what stands at the ends:
// a sink, and programs to compare others with. Nothing of it is for a network that others use.
package generator

import (
	"context"
	"encoding/binary"
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
	Rate     int              // packets per second, 0: as many as the processor makes
}

// Generator sends packets. Not safe for concurrent use.
type Generator struct {
	options Options
	objects struct {
		Generate *ebpf.Program  `ebpf:"generate"`
		Sent     *ebpf.Variable `ebpf:"sent"`
	}
}

// New loads a generator, which begins with the first flow.
func New(o Options) (*Generator, error) {
	if o.Flows < 1 || o.Flows > MaxFlows {
		return nil, fmt.Errorf("%d flows: possible are 1 to %d", o.Flows, MaxFlows)
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

// With so many packets in a call of the kernel its set-up costs nothing that can be measured, and an interrupt is noticed
// within a tenth of a second.
const batch = 1 << 17

// batchTime is how much is sent at once where a rate is held.
const batchTime = 2 * time.Millisecond

// Send sends so many packets, or some more where a signal interrupts it; it goes on with the flow after the last one.
// The calling thread must be in the network namespace of the interface. What the other end has no room for is lost.
func (g *Generator) Send(ctx context.Context, packets int) error {
	size := batch
	if g.options.Rate > 0 {
		size = max(1, int(float64(g.options.Rate)*batchTime.Seconds()))
	}
	begin := time.Now()
	for done := 0; done < packets; done += size {
		if err := g.pause(ctx, begin, done); err != nil {
			return err
		}
		if err := g.run(min(size, packets-done)); err != nil {
			return err
		}
	}
	return nil
}

// pause waits until the time has come for what follows the first so many packets.
func (g *Generator) pause(ctx context.Context, begin time.Time, done int) error {
	if g.options.Rate == 0 {
		return ctx.Err()
	}
	due := begin.Add(time.Duration(float64(done) / float64(g.options.Rate) * float64(time.Second)))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}

// run has the kernel make and send so many frames.
func (g *Generator) run(packets int) error {
	frame := make([]byte, 60) // ETH_ZLEN (include/uapi/linux/if_ether.h); the program changes it as it needs
	_, err := g.objects.Generate.Run(&ebpf.RunOptions{
		Data:    frame,
		Context: xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(g.options.Index)},
		Repeat:  uint32(packets),
		Flags:   unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	})
	if err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	return nil
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
