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
