package dataplane

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A trace through a private dataplane does what the live program does to the same frames.
func TestTraceIsTheProgram(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 8080))
	h.set(t, oneBackend(ProtocolUDP, service6, ModeGUE, "2001:db8:2::11", 80))
	frames := [][]byte{
		fromClient(ProtocolTCP, client4, service4).frame(t),
		between("198.51.100.11", 8080, "198.51.100.1", 5000).frame(t),
		fromClient(ProtocolUDP, client6, service6).frame(t),
		fromClient(ProtocolUDP, client4, service4).frame(t),
	}
	before, flows := h.reasons(t), h.flowCount(t)
	traced, err := h.Trace(frames, h.clients)
	must(t, err)
	if diff := cmp.Diff(before, h.reasons(t)); diff != "" || h.flowCount(t) != flows {
		t.Errorf("tracing changed what the live program counts or knows: %s", diff)
	}
	for i, frame := range frames {
		action, out := h.receive(t, h.clients, frame)
		if traced[i].Action != actionNames[action] {
			t.Errorf("packet %d: traced %s, done %s", i+1, traced[i].Action, actionNames[action])
		}
		wantFrame(t, traced[i].Frame, out)
	}
	wantReasons := []string{"to_backend", "to_client", "to_backend", "pass_no_service"}
	wantCauses := []Cause{CauseSlot, CauseReply, CauseSlot, CauseNone}
	for i, packet := range traced {
		if packet.Reason != wantReasons[i] || packet.Cause != wantCauses[i] {
			t.Errorf("packet %d: %s because of %s, want %s because of %s", i+1, packet.Reason, packet.Cause, wantReasons[i], wantCauses[i])
		}
	}
	if want := netip.MustParseAddrPort("198.51.100.11:8080"); traced[0].Backend != want || traced[1].Backend != want {
		t.Errorf("backends %s and %s, want %s", traced[0].Backend, traced[1].Backend, want)
	}
}

// A trace knows the flows that the live program remembers.
func TestTraceKnowsFlows(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	s.Tracking = TrackingFull
	h.set(t, s)
	frame := fromClient(ProtocolTCP, client4, service4).frame(t)
	h.receive(t, h.clients, frame)
	s.Backends[0].Weight = 0
	s.Backends = append(s.Backends, Backend{Address: addr("198.51.100.12"), Port: 80, Weight: 100})
	h.set(t, s)
	traced, err := h.Trace([][]byte{frame, fromClient(ProtocolTCP, "192.0.2.77", service4).frame(t)}, h.clients)
	must(t, err)
	if traced[0].Cause != CauseFlow || traced[0].Backend.Addr() != addr("198.51.100.11") {
		t.Errorf("the known flow goes to %s because of %s", traced[0].Backend, traced[0].Cause)
	}
	if traced[1].Cause != CauseSlot || traced[1].Backend.Addr() != addr("198.51.100.12") || traced[1].Slots == 0 {
		t.Errorf("the new flow goes to %s because of %s", traced[1].Backend, traced[1].Cause)
	}
}

// flowCount is the number of remembered flows and ways back.
func (h *testHost) flowCount(t testing.TB) (n int) {
	t.Helper()
	for name, c := range newCopies() {
		must(t, c.read(rememberedMaps(&h.objects.balancerMaps)[name]))
		n += c.length()
	}
	return n
}
