package dataplane

import (
	"errors"
	"testing"
)

// justEnough is a TCP service with just-enough tracking.
func justEnough(backends ...Backend) Service {
	return Service{
		ServiceKey: ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolTCP},
		Mode:       ModeL2, Tracking: TrackingJustEnough, Backends: backends,
	}
}

// client sends a packet from a port and returns the number of the backend that it goes to.
func (h *testHost) client(t testing.TB, port uint16, syn bool) int {
	t.Helper()
	p := fromClient(ProtocolTCP, client4, service4).fromPort(port)
	p.syn = syn
	action, out := h.receive(t, h.clients, p.frame(t))
	wantAction(t, action, xdpRedirect)
	return int(out[5])
}

// portOf finds a port whose flow a new connection brings to the backend.
func (h *testHost) portOf(t testing.TB, server int) uint16 {
	t.Helper()
	for port := uint16(1000); port < 2000; port++ {
		traced, err := h.Trace([][]byte{fromClient(ProtocolTCP, client4, service4).fromPort(port).frame(t)}, h.clients)
		must(t, err)
		if traced[0].Backend.Addr() == servers([]int{server}, 0)[0].Address {
			return port
		}
	}
	t.Fatalf("no port leads to server %d", server)
	return 0
}

// In stable slots a flood of SYNs leaves nothing behind, nor does anything else; the counters count the SYNs.
func TestStableSlotsRememberNothing(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 21), 100)...)
	h.set(t, s)
	for port := range uint16(3000) {
		h.client(t, port, true)
		h.client(t, port, false)
	}
	if n := len(keys(t, h.objects.Flows4)); n != 0 {
		t.Errorf("%d flows are remembered", n)
	}
	status, _ := h.ServiceStatus(s.ServiceKey)
	flows := uint64(0)
	for _, b := range status.Backends {
		flows += b.NewFlows
	}
	if flows != 3000 || status.Tracking.InTransition != 0 || status.Tracking.Stable != status.Slots {
		t.Errorf("%d new flows, %+v", flows, status.Tracking)
	}
}

// The older table of another size goes while its connections go on: they are remembered by then.
func TestOlderTableEnds(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 14), 100)...)
	h.set(t, s)
	was := make(map[uint16]int)
	for port := range uint16(500) {
		was[port] = h.client(t, port, true)
	}
	s.Backends = servers(numbers(11, 40), 100)
	h.set(t, s)
	set := h.state[s.ServiceKey].sets[""]
	for round := 0; set.older.size != 0; round++ {
		for port, backend := range was {
			if now := h.client(t, port, false); now != backend {
				t.Fatalf("the connection from port %d moved from %d to %d in round %d", port, backend, now, round)
			}
		}
		if round > 3 {
			t.Fatal("the older table does not end while its connections live")
		}
		h.later(t, ticksOf(defaultIdle)*6/10)
		must(t, h.sweep(false))
	}
	for port, backend := range was {
		if now := h.client(t, port, false); now != backend {
			t.Errorf("the connection from port %d moved from %d to %d without the older table", port, backend, now)
		}
	}
}

// A backend that failed and comes back does not get the flows back that it had before: in stable slots nobody
// noticed that they were opened again elsewhere.
func TestRecoveredBackendIsForgotten(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 13), 100)...)
	s.Backends[1].Weight = 0
	h.set(t, s)
	s.Backends[1].Weight = 100
	h.set(t, s)
	port := h.portOf(t, 12)
	h.client(t, port, true)
	h.later(t, ticksOf(defaultIdle)+2)
	h.client(t, port, false) // alive, where its slot says
	must(t, h.sweep(false))
	s.Backends[1].Down = true
	h.set(t, s)
	if again := h.client(t, port, true); again != 11 {
		t.Fatalf("with 12 down the connection is opened at %d", again)
	}
	s.Backends[1].Down = false
	h.set(t, s)
	if now := h.client(t, port, false); now != 11 {
		t.Errorf("the connection moved from 11, which is up, to %d", now)
	}
}

// The same of the table of another size: what it says of a backend that failed meanwhile is not true any more.
func TestOlderTableForgetsTheLost(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 13), 100)...)
	h.set(t, s)
	s.Backends = servers(numbers(11, 40), 100)
	h.set(t, s)
	s.Backends[0].Down = true // 11
	h.set(t, s)
	was := make(map[uint16]int)
	for port := range uint16(500) {
		was[port] = h.client(t, port, true)
	}
	s.Backends[0].Down = false
	h.set(t, s)
	for port, backend := range was {
		if now := h.client(t, port, false); now != backend {
			t.Errorf("the connection from port %d moved from %d to %d", port, backend, now)
		}
	}
}

// All backends drain: their connections stay, new ones are refused.
func TestAllDrain(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 14), 100)...)
	h.set(t, s)
	was := make(map[uint16]int)
	for port := range uint16(200) {
		was[port] = h.client(t, port, true)
	}
	for i := range s.Backends {
		s.Backends[i].Weight = 0
	}
	h.set(t, s)
	for port, backend := range was {
		if now := h.client(t, port, false); now != backend {
			t.Errorf("the connection from port %d moved from %d to %d", port, backend, now)
		}
	}
	action, _ := h.receive(t, h.clients, fromClient(ProtocolTCP, client4, service4).fromPort(999).frame(t))
	wantAction(t, action, xdpDrop)
	if status, _ := h.ServiceStatus(s.ServiceKey); status.Slots != 0 {
		t.Errorf("%d slots take new flows", status.Slots)
	}
}

// Without tracking the table alone decides.
func TestTrackingNone(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 13), 100)...)
	s.Tracking = TrackingNone
	h.set(t, s)
	port := h.portOf(t, 11)
	h.client(t, port, true)
	s.Backends[0].Weight = 0
	h.set(t, s)
	if now := h.client(t, port, false); now != 12 {
		t.Errorf("the packet goes to %d", now)
	}
	if n := len(keys(t, h.objects.Flows4)); n != 0 {
		t.Errorf("%d flows are remembered", n)
	}
}

// An ICMP error goes to the backend of the flow that it quotes, and later fragments after their first, also where
// the slot is in transition.
func TestTransitionOfErrorsAndFragments(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 13), 100)...)
	h.set(t, s)
	port := h.portOf(t, 11)
	h.client(t, port, true)
	s.Backends[0].Weight = 0
	h.set(t, s)
	answer := packet{
		from: clientMAC, to: clientsMAC, source: addr(service4), target: addr(client4),
		sport: 80, dport: port, protocol: ProtocolTCP, payload: "payload",
	}
	problem := fromClient(ProtocolTCP, client4, service4)
	_, out := h.receive(t, h.clients, icmpFrame(t, problem, 3, 4, quote(t, answer)))
	if int(out[5]) != 11 {
		t.Errorf("the error goes to %d", out[5])
	}
	first := fromClient(ProtocolTCP, client4, service4).fromPort(port)
	first.syn, first.mayFragment = false, true
	frame := first.frame(t)
	for i, offset := range []uint16{0x2000, 0x0010} { // more fragments; the last, at 128 bytes
		frame[20], frame[21] = byte(offset>>8), byte(offset)
		action, out := h.receive(t, h.clients, frame)
		wantAction(t, action, xdpRedirect)
		if int(out[5]) != 11 {
			t.Errorf("fragment %d goes to %d", i, out[5])
		}
	}
}

// Slots in transition outlive the process, and go on to be swept.
func TestTransitionsAreAdopted(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	s := justEnough(servers(numbers(11, 14), 100)...)
	h.set(t, s)
	port := h.portOf(t, 12)
	h.client(t, port, true)
	s.Backends = append(servers(numbers(11, 12), 100), servers(numbers(13, 40), 100)...)
	s.Backends = append(s.Backends, servers([]int{12}, 0)...)
	h.set(t, s)
	before, _ := h.ServiceStatus(s.ServiceKey)
	must(t, h.Close())
	h.Dataplane = openTest(t, options)
	h.set(t, s)
	after, _ := h.ServiceStatus(s.ServiceKey)
	if before.Tracking.InTransition == 0 || after.Tracking.InTransition != before.Tracking.InTransition || h.Stats().TableRewrites != 0 {
		t.Errorf("%+v became %+v with %d rewrites", before.Tracking, after.Tracking, h.Stats().TableRewrites)
	}
	if now := h.client(t, port, false); now != 12 {
		t.Errorf("the connection moved to %d", now)
	}
	for range 3 {
		h.later(t, ticksOf(defaultIdle)+2)
		must(t, h.sweep(true))
	}
	if after, _ = h.ServiceStatus(s.ServiceKey); after.Tracking.InTransition != 0 {
		t.Errorf("the transitions do not end: %+v", after.Tracking)
	}
	must(t, h.RemoveService(s.ServiceKey))
	eventually(t, "an empty dataplane", func() bool { return h.Stats().SlotsUsed == 0 })
}

// A trace tells that a connection is older than a change, and leaves the slot as it was.
func TestTraceOfTransition(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers(numbers(11, 13), 100)...)
	h.set(t, s)
	port := h.portOf(t, 11)
	s.Backends[0].Weight = 0
	h.set(t, s)
	h.later(t, 10)
	old := fromClient(ProtocolTCP, client4, service4).fromPort(port)
	old.syn = false
	traced, err := h.Trace([][]byte{old.frame(t)}, h.clients)
	must(t, err)
	if traced[0].Cause != CausePrevious || traced[0].Backend.Addr() != s.Backends[0].Address || traced[0].Slots == 0 {
		t.Errorf("it goes to %s because of %s", traced[0].Backend, traced[0].Cause)
	}
	set := h.state[s.ServiceKey].sets[""]
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, slot := range h.slots.of(set.table) {
		if uint16(tick())-slot.seen() < 9 {
			t.Fatal("the trace has noted a packet")
		}
	}
}

func TestTrackingRefused(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, change := range map[string]func(*Service){
		"just-enough in nat mode": func(s *Service) { s.Mode = ModeNAT },
		"just-enough of udp":      func(s *Service) { s.Protocol = ProtocolUDP },
		"p2c of udp":              func(s *Service) { s.Protocol, s.Tracking, s.Policy = ProtocolUDP, TrackingFull, PolicyP2C },
		"p2c with none":           func(s *Service) { s.Tracking, s.Policy = TrackingNone, PolicyP2C },
	} {
		s := justEnough(servers([]int{11}, 100)...)
		change(&s)
		if err := h.SetService(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
	if len(h.Services()) != 0 {
		t.Error("something was set")
	}
}

// Where slots run out, the older table goes rather than the new one.
func TestOlderTableMakesRoom(t *testing.T) {
	options := testOptions(t)
	options.Limits.Slots = 509 + 251 + 200
	h := newTestHost(t, options)
	s := justEnough(servers(numbers(11, 16), 100)...)
	h.set(t, s)
	s.Backends = s.Backends[:2]
	h.set(t, s) // 251 slots beside 509
	s.Backends[0].Weight = 0
	must(t, h.SetService(s))
	if older := h.state[s.ServiceKey].sets[""].older; older.size != 0 {
		t.Error("the older table is still there")
	}
}
