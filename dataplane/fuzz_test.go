package dataplane

import (
	"bytes"
	"testing"
)

// FuzzBalancer gives the balancer frames that are nearly right, and holds it to what is true of every frame:
// it ends in one way, which is counted once; what passes is untouched; what leaves is no longer than with the
// largest outer header or as an ICMP error.
func FuzzBalancer(f *testing.F) {
	h := newTestHost(f, testOptions(f))
	for _, s := range []Service{
		oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 8080),
		oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80),
		oneBackend(ProtocolTCP, service6, ModeIPIP, "2001:db8:2::b", 80),
		oneBackend(ProtocolUDP, service6, ModeNAT, "2001:db8:2::b", 0),
	} {
		h.set(f, s)
	}
	for _, client := range []struct{ from, to string }{{client4, service4}, {client6, service6}} {
		for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP} {
			p := fromClient(protocol, client.from, client.to)
			f.Add(p.frame(f), true)
			f.Add(p.tagged(7, 8).frame(f), true)
			p.payload = string(make([]byte, 1470))
			f.Add(p.frame(f), true)
		}
	}
	router := packet{from: clientMAC, to: clientsMAC, source: addr("192.0.2.254"), target: addr(service4)}
	f.Add(icmpFrame(f, router, 3, 4, quote(f, between(service4, 80, client4, 40000))), true)
	f.Add(icmpFrame(f, router, 8, 0, []byte("payload")), true)
	f.Add(between("198.51.100.11", 8080, "198.51.100.1", 5000).frame(f), false)
	f.Fuzz(func(t *testing.T, frame []byte, fromClients bool) {
		if len(frame) < 14 || len(frame) > 3000 {
			return // no interface delivers that
		}
		h := h.here(t)
		before := h.ends(t)
		ifindex := h.servers
		if fromClients {
			ifindex = h.clients
		}
		action, out := h.receive(t, ifindex, frame)
		if counted := h.ends(t) - before; counted != 1 {
			t.Errorf("%s is counted %d times", actionNames[action], counted)
		}
		switch action {
		case xdpPass:
			if !bytes.Equal(out, frame) {
				t.Error("a frame that passes is changed")
			}
		case xdpTX, xdpRedirect:
			if len(out) > len(frame)+40+8 {
				t.Errorf("%d bytes became %d", len(frame), len(out))
			}
		case xdpDrop:
		default:
			t.Errorf("action %d", action)
		}
	})
}

// ends is the number of packets that have ended in any way.
func (h *testHost) ends(t testing.TB) (sum uint64) {
	t.Helper()
	for _, count := range h.reasons(t) {
		sum += count
	}
	for _, s := range h.Services() {
		status, _ := h.ServiceStatus(s.ServiceKey)
		for _, b := range status.Backends {
			sum += b.Packets + b.Replies
		}
	}
	return sum
}
