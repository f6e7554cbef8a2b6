package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// choosy is a service with all that can choose a backend: a denied prefix, a set for another, a server ID.
func choosy() Service {
	s := oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80)
	s.Backends = append(s.Backends, Backend{Address: addr("198.51.100.12"), Port: 80, Weight: 100, Set: "canary", ServerID: "\xca\xfe"})
	s.QUIC = QUIC{Config: 1, ServerIDLength: 2}
	s.Sources = []SourceRule{
		{Prefix: netip.MustParsePrefix("192.0.2.64/26"), Set: "canary"},
		{Prefix: netip.MustParsePrefix("192.0.2.96/27"), Deny: true},
		{Prefix: netip.MustParsePrefix("192.0.2.99/32")},
	}
	return s
}

// wantChosen sends a packet of a new flow, and compares where it goes: to the server with a number, or nowhere.
func (h *testHost) wantChosen(t *testing.T, client, payload string, server int) {
	t.Helper()
	p := fromClient(ProtocolUDP, client, service4)
	p.payload = payload
	action, out := h.receive(t, h.clients, p.frame(t))
	if server == 0 {
		wantAction(t, action, xdpDrop)
		return
	}
	wantAction(t, action, xdpRedirect)
	wantFrame(t, out, p.towards(server).frame(t))
	h.forget(t)
}

func (h *testHost) wantChoosy(t *testing.T) {
	t.Helper()
	h.wantChosen(t, "192.0.2.9", "payload", 11)
	h.wantChosen(t, "192.0.2.70", "payload", 12)
	h.wantChosen(t, "192.0.2.98", "payload", 0)
	h.wantChosen(t, "192.0.2.99", "payload", 11)
	h.wantChosen(t, "192.0.2.9", "\x40\x22\xca\xfe456", 12)
}

// Rules, sets and server IDs hold through a restart, go when they are not wanted any more, and leave nothing
// behind.
func TestRulesAreAdopted(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	s := choosy()
	h.set(t, s)
	h.wantChoosy(t)

	must(t, h.Close())
	h.Dataplane = openTest(t, options)
	h.openDevice(h.clients)
	h.wantChoosy(t) // before anything is set
	set := h.rule(t, s.Sources[0].Prefix)
	h.set(t, s)
	h.wantChoosy(t)
	h.wantHeld(t, 3, 1, 2, 2)
	if now := h.rule(t, s.Sources[0].Prefix); now != set || h.Stats().TableRewrites != 0 {
		t.Errorf("the set was made anew: record %d was %d, %d tables were written", now, set, h.Stats().TableRewrites)
	}

	s.Sources, s.Backends[1].ServerID = s.Sources[2:], ""
	h.set(t, s)
	h.wantChosen(t, "192.0.2.70", "payload", 11)
	h.wantChosen(t, "192.0.2.98", "payload", 11)
	h.wantChosen(t, "192.0.2.9", "\x40\x22\xca\xfe456", 11)
	h.wantHeld(t, 1, 0, 1, 2)

	must(t, h.RemoveService(s.ServiceKey))
	h.wantHeld(t, 0, 0, 0, 0)
}

// rule reads the value of a rule for IPv4 sources of the only service.
func (h *testHost) rule(t *testing.T, prefix netip.Prefix) (value uint32) {
	t.Helper()
	for _, st := range h.state {
		must(t, h.objects.Sources4.Lookup(ruleKey(st.index, prefix), &value))
	}
	return value
}

// Server IDs that are longer than those of the service are removed, not taken for shorter ones: a process may
// end between changing their length and removing them.
func TestServerIDsOfAnotherLength(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	s := choosy()
	h.set(t, s)
	for _, st := range h.state {
		h.services.items[st.index].QuicLength = 1
	}
	must(t, h.Close())
	h.Dataplane = openTest(t, options)
	s.QUIC.ServerIDLength, s.Backends[1].ServerID = 1, "\xca"
	h.set(t, s)
	h.wantHeld(t, 3, 1, 2, 2)
	must(t, h.RemoveService(s.ServiceKey))
	h.wantHeld(t, 0, 0, 0, 0)
}

// wantHeld counts what the kernel holds of all services.
func (h *testHost) wantHeld(t *testing.T, rules, servers, records, backends int) {
	t.Helper()
	h.mu.Lock()
	must(t, h.reclaim())
	used := [2]int{h.freeIndex.services.used, h.freeIndex.backends.used}
	h.mu.Unlock()
	got := []int{len(keys(t, h.objects.Sources4)), len(keys(t, h.objects.Servers)), used[0], used[1]}
	if want := []int{rules, servers, records, backends}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rules, server IDs, records of services and backends: %v, want %v", got, want)
	}
	if h.freeIndex.services.used == 0 && h.regions.used != 0 {
		t.Errorf("%d slots are lost", h.regions.used)
	}
}

// What is behind the packet in its frame is no connection ID.
func TestPaddingIsNoConnectionID(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := choosy()
	s.Backends[1].ServerID = "\x00\x00"
	h.set(t, s)
	p := fromClient(ProtocolUDP, client4, service4)
	p.padding = 16
	for payload, server := range map[string]byte{"\x40\x22\x00": 11, "\x40\x22\x00\x00": 12} {
		p.payload = payload
		if got := h.backendOf(t, p).As4()[3]; got != server {
			t.Errorf("%x goes to server %d, want %d", payload, got, server)
		}
		h.forget(t)
	}
}

// A connection ID spares a flow that nat has to remember neither the limit nor the count.
func TestConnectionIDIsLimited(t *testing.T) {
	for mode, limited := range map[Mode]bool{ModeNAT: true, ModeL2: false} {
		t.Run(mode.String(), func(t *testing.T) {
			options := testOptions(t)
			options.NATPorts = PortRange{First: 5000, Last: 5999}
			h := newTestHost(t, options)
			s := choosy()
			s.Mode, s.Limit = mode, Limit{Rate: 1, Burst: 2}
			h.set(t, s)
			p := fromClient(ProtocolUDP, client4, service4)
			p.payload = "\x40\x22\xca\xfe456"
			forwarded := 0
			for port := range uint16(100) {
				if action, _ := h.receive(t, h.clients, p.fromPort(port).frame(t)); action == xdpRedirect {
					forwarded++
				}
			}
			status, _ := h.ServiceStatus(s.ServiceKey)
			counted := status.Backends[1].NewFlows
			if (forwarded < 100) != limited || limited && counted != uint64(forwarded) || !limited && counted != 0 {
				t.Errorf("%d of 100 packets were forwarded and %d new flows counted", forwarded, counted)
			}
		})
	}
}

// A service that does not fit changes nothing, whichever of its tables has no room.
func TestSetsDoNotFit(t *testing.T) {
	options := testOptions(t)
	options.Limits.Slots, options.Limits.Services = 600, 2
	h := newTestHost(t, options)
	s := oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	for name, change := range map[string]func(*Service){
		"slots": func(s *Service) {
			s.Sources = []SourceRule{{Prefix: netip.MustParsePrefix("192.0.2.64/26"), Set: "a"}}
			for n := range 10 {
				s.Backends = append(s.Backends, Backend{Address: addr(fmt.Sprint("198.51.100.", 20+n)), Port: 80, Weight: 1, Set: "a"})
			}
		},
		"records": func(s *Service) {
			for n, set := range []string{"a", "b", "c"} {
				prefix := netip.PrefixFrom(addr(fmt.Sprint("192.0.2.", n)), 32)
				s.Sources = append(s.Sources, SourceRule{Prefix: prefix, Set: set})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			larger := s
			change(&larger)
			if err := h.SetService(larger); !errors.Is(err, ErrFull) {
				t.Fatalf("error is %v, want one of ErrFull", err)
			}
			h.wantChosen(t, "192.0.2.70", "payload", 11)
			h.wantHeld(t, 0, 0, 1, 1)
		})
	}
}
