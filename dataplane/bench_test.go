package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A change of one backend's weight among so many, from the call to the switched table.
func BenchmarkSetService(b *testing.B) {
	for name, count := range map[string]int{"backends=4": 4, "backends=100": 100, "backends=1000": 1000} {
		b.Run(name, func(b *testing.B) {
			inNamespace(b)
			addInterface(b, "eth1", serversMAC, "10.0.0.1/8")
			d, err := Open(Options{PinPath: bpffs + "/sluice-bench"})
			must(b, err)
			defer func() {
				must(b, d.Close())
				must(b, Unload(bpffs+"/sluice-bench"))
			}()
			s := Service{ServiceKey: ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolTCP}}
			for n := range count {
				s.Backends = append(s.Backends, Backend{Address: netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), Port: 80, Weight: 100})
			}
			must(b, d.SetService(s))
			for i := 0; b.Loop(); i++ {
				s.Backends[0].Weight = uint16(99 + i%2)
				must(b, d.SetService(s))
			}
			b.ReportMetric(float64(d.slotsOf(s.ServiceKey)), "slots")
		})
	}
}

func (d *Dataplane) slotsOf(key ServiceKey) int {
	status, _ := d.ServiceStatus(key)
	return status.Slots
}

// The cost of one packet of a remembered flow, and of one that is for no service. The program runs on the frame
// that it has changed already, which in mode l2 makes no difference.
func BenchmarkPacket(b *testing.B) {
	for name, address := range map[string]struct{ client, service, backend, other string }{
		"IPv4": {client4, service4, "198.51.100.11", "192.0.2.101"},
		"IPv6": {client6, service6, "2001:db8:2::b", "2001:db8:1::101"},
	} {
		h := newTestHost(b, testOptions(b))
		h.set(b, oneBackend(ProtocolTCP, address.service, ModeL2, address.backend, 80))
		service := fromClient(ProtocolTCP, address.client, address.service)
		for what, p := range map[string]packet{
			"l2": service, "l2 ACK": service.acknowledging(), "no service": fromClient(ProtocolTCP, address.client, address.other),
		} {
			frame := p.frame(b)
			b.Run(name+" "+what, func(b *testing.B) {
				_, duration, err := h.objects.Balancer.Benchmark(frame, b.N, b.ResetTimer)
				must(b, err)
				b.ReportMetric(float64(duration.Nanoseconds()), "ns/packet")
			})
		}
	}
}

// The cost of a packet of one of so many connections, each time the next one, among 100 backends, by what is
// remembered. The kernel's own statistics measure the program alone; what they cost is the same in every line.
func BenchmarkTracking(b *testing.B) {
	for _, flows := range []int{1, 1000, 100_000} {
		for _, kind := range []Service{
			{Tracking: TrackingFull}, {Tracking: TrackingJustEnough}, {Tracking: TrackingNone}, {Policy: PolicyP2C, Tracking: TrackingJustEnough},
		} {
			b.Run(fmt.Sprintf("%s %s flows=%d", kind.Policy, kind.Tracking, flows), func(b *testing.B) {
				options := testOptions(b)
				options.Limits.Flows = DefaultLimits.Flows
				h := newTestHost(b, options)
				s := justEnough(servers(numbers(2, 102), 100)...)
				s.Policy, s.Tracking = kind.Policy, kind.Tracking
				h.set(b, s)
				frames := make([][]byte, flows)
				for i := range frames {
					p := fromClient(ProtocolTCP, client4, service4).fromPort(uint16(i))
					p.source = netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), 1})
					h.receive(b, h.clients, p.frame(b))
					frames[i] = p.acknowledging().frame(b)
				}
				h.measure(b, frames)
			})
		}
	}
}

// measure gives the frames to the balancer, one after the other, and reports what each took.
func (h *testHost) measure(b *testing.B, frames [][]byte) {
	stop, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	must(b, err)
	defer stop.Close()
	before, err := h.objects.Balancer.Stats()
	must(b, err)
	for i := 0; b.Loop(); i++ {
		h.receive(b, h.clients, frames[i%len(frames)])
	}
	after, err := h.objects.Balancer.Stats()
	must(b, err)
	b.ReportMetric(float64((after.Runtime-before.Runtime).Nanoseconds())/float64(after.RunCount-before.RunCount), "ns/packet")
}

// The time that a look at a full table of remembered flows takes.
func BenchmarkSweep(b *testing.B) {
	options := testOptions(b)
	options.Limits.Flows = DefaultLimits.Flows
	h := newTestHost(b, options)
	s := justEnough(servers(numbers(2, 102), 100)...)
	s.Tracking = TrackingFull
	h.set(b, s)
	var kept entries[balancerTuple4, balancerFlow4]
	h.client(b, 1, true)
	must(b, kept.read(h.objects.Flows4))
	for i := range 450_000 {
		key, value := kept.keys[0], kept.values[0]
		key.Source, value.Source = uint32(i), uint32(i)<<12
		must(b, h.objects.Flows4.Put(key, value))
	}
	for b.Loop() {
		must(b, h.sweep(true))
	}
	status, _ := h.ServiceStatus(s.ServiceKey)
	b.ReportMetric(float64(status.Tracking.Remembered), "flows")
}
