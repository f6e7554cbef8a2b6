package dataplane

import (
	"net/netip"
	"testing"
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
