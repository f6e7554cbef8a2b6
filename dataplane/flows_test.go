package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// A flow keeps its backend while that serves, whatever the table says; it moves when that is down or gone.
func TestFlowsStay(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *Service)
		moves  bool
	}{
		"others added":    {func(s *Service) { s.Backends = append(s.Backends, servers(numbers(50, 90), 1000)...) }, false},
		"drained":         {func(s *Service) { s.Backends[0].Weight = 0 }, false},
		"weight changed":  {func(s *Service) { s.Backends[0].Weight = 1 }, false},
		"down":            {func(s *Service) { s.Backends[0].Down = true }, true},
		"removed":         {func(s *Service) { s.Backends = s.Backends[1:] }, true},
		"mode of service": {func(s *Service) { s.Mode = ModeIPIP; s.Backends = s.Backends[1:] }, true},
	} {
		for _, mode := range []Mode{ModeL2, ModeNAT} {
			t.Run(mode.String()+" "+name, func(t *testing.T) {
				options := testOptions(t)
				options.NATPorts = PortRange{First: 5000, Last: 6000}
				h := newTestHost(t, options)
				s := Service{ServiceKey: ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolTCP}, Mode: mode, Backends: servers([]int{11}, 100)}
				h.set(t, s)
				flow := fromClient(ProtocolTCP, client4, service4)
				first := h.backendOf(t, flow)
				s.Backends = append(s.Backends, servers(numbers(12, 20), 100)...)
				test.change(&s)
				h.set(t, s)
				flow.syn = false
				for range 3 {
					if moved := h.backendOf(t, flow) != first; moved != test.moves {
						t.Errorf("moved is %v, want %v", moved, test.moves)
					}
				}
			})
		}
	}
}

// Another backend that gets the index of a removed one does not inherit its flows.
func TestIndexIsReused(t *testing.T) {
	options := testOptions(t)
	options.Limits.Backends = 1
	h := newTestHost(t, options)
	flow := fromClient(ProtocolUDP, client4, service4)
	for _, n := range []int{11, 12, 13} {
		h.set(t, udpService(servers([]int{n}, 100)...))
		if got, want := h.backendOf(t, flow), serverOf(serverMAC(n)); got != want {
			t.Errorf("the flow goes to %s, want %s", got, want)
		}
		must(t, h.RemoveService(udpService().ServiceKey))
	}
}

// New flows are counted once, packets and bytes always.
func TestCounters(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for _, mode := range []Mode{ModeL2, ModeIPIP, ModeNAT} {
		s := oneBackend(ProtocolTCP, service4, mode, "198.51.100.11", 80)
		h.set(t, s)
		syn := fromClient(ProtocolTCP, client4, service4)
		frame := syn.acknowledging().frame(t)
		for _, frame := range [][]byte{syn.frame(t), frame, frame} {
			h.receive(t, h.clients, frame)
		}
		status, _ := h.ServiceStatus(s.ServiceKey)
		if got, want := status.Backends[0].Counters, (Counters{Packets: 3, Bytes: 3 * uint64(len(frame)), NewFlows: 1}); got != want {
			t.Errorf("%s: counters are %+v, want %+v", mode, got, want)
		}
		h.forget(t)
	}
}

// newNAT is a host with one backend behind nat and so many ports.
func newNAT(t *testing.T, ports uint16) *testHost {
	t.Helper()
	options := testOptions(t)
	options.NATPorts = PortRange{First: 5000, Last: 5000 + ports - 1}
	h := newTestHost(t, options)
	h.set(t, oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80))
	return h
}

func (p packet) closing() packet {
	p.syn, p.fin = false, true
	return p
}

// sourcePort reads the source port of an IPv4 frame.
func sourcePort(frame []byte) uint16 { return uint16(frame[34])<<8 | uint16(frame[35]) }

// Flows of one backend have different ports, and each keeps its own.
func TestPorts(t *testing.T) {
	h := newNAT(t, 1000)
	taken := make(map[uint16]uint16)
	in := fromClient(ProtocolTCP, client4, service4)
	for client := uint16(1); client <= 500; client++ {
		_, out := h.receive(t, h.clients, in.fromPort(client).frame(t))
		port := sourcePort(out)
		if other := taken[port]; other != 0 || port < 5000 || port > 5999 {
			t.Fatalf("client port %d got port %d, which client port %d has", client, port, other)
		}
		taken[port] = client
	}
	for port, client := range taken {
		if _, out := h.receive(t, h.clients, in.fromPort(client).frame(t)); sourcePort(out) != port {
			t.Errorf("client port %d moved from port %d to %d", client, port, sourcePort(out))
		}
	}
}

// age makes every flow as if nothing had been seen of it for so many ticks of 1.07 s.
func (h *testHost) age(t testing.TB, ticks uint32) {
	t.Helper()
	ageAll[balancerTuple4](t, h.objects.Replies4, ticks, func(r *balancerReply4) *uint32 { return &r.Head.Seen })
	ageAll[balancerTuple4](t, h.objects.Flows4, ticks, func(f *balancerFlow4) *uint32 { return &f.Head.Seen })
	ageAll[balancerTuple6](t, h.objects.Flows6, ticks, func(f *balancerFlow6) *uint32 { return &f.Head.Seen })
}

func ageAll[K, V any](t testing.TB, m *ebpf.Map, ticks uint32, seen func(*V) *uint32) {
	t.Helper()
	var all entries[K, V]
	must(t, all.read(m))
	for i := range all.values {
		*seen(&all.values[i]) -= ticks
	}
	must(t, all.write(m))
}

// A port is given to another flow when the one before is over, and not earlier.
func TestPortsAreReused(t *testing.T) {
	in := fromClient(ProtocolTCP, client4, service4)
	data := in
	data.syn = false
	for name, test := range map[string]struct {
		before []packet
		ticks  uint32
		want   uint32
	}{
		"closed just now":        {[]packet{in, data, in.closing()}, 1, xdpDrop},
		"closed a while ago":     {[]packet{in, data, in.closing()}, 5, xdpRedirect},
		"seen a tick later":      {[]packet{in, data}, ^uint32(0), xdpDrop},
		"only a SYN":             {[]packet{in}, 1, xdpDrop},
		"only a SYN, long ago":   {[]packet{in}, 60, xdpRedirect},
		"one ACK, long ago":      {[]packet{data}, 60, xdpRedirect},
		"two ACKs":               {[]packet{data, data}, 3600, xdpDrop},
		"open and idle":          {[]packet{in, data}, 3600, xdpDrop},
		"open and idle for long": {[]packet{in, data}, 7200, xdpRedirect},
	} {
		t.Run(name, func(t *testing.T) {
			h := newNAT(t, 1)
			for _, p := range test.before {
				h.receive(t, h.clients, p.frame(t))
			}
			h.age(t, test.ticks)
			action, _ := h.receive(t, h.clients, in.fromPort(40001).frame(t))
			wantAction(t, action, test.want)
		})
	}
}

// What a backend that a flow has left says of its end is not the end of the flow.
func TestLeftBackendEndsNothing(t *testing.T) {
	h := newNAT(t, 1)
	s := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80)
	s.Backends = append(s.Backends, Backend{Address: addr("198.51.100.12"), Port: 80})
	in := fromClient(ProtocolTCP, client4, service4)
	data := in
	data.syn = false
	h.set(t, s)
	h.receive(t, h.clients, in.frame(t))
	s.Backends[0].Down, s.Backends[1].Weight = true, 100
	h.set(t, s)
	for range 2 {
		if got := h.backendOf(t, data); got != addr("198.51.100.12") {
			t.Fatalf("the flow goes to %s", got)
		}
	}
	s.Backends[0].Down, s.Backends[0].Weight = false, 0
	h.set(t, s)
	end := packet{
		from: serverMAC(11), to: serversMAC, source: addr("198.51.100.11"), target: addr("198.51.100.1"),
		sport: 80, dport: 5000, protocol: ProtocolTCP, rst: true,
	}
	action, _ := h.receive(t, h.servers, end.frame(t))
	wantAction(t, action, xdpRedirect)
	h.age(t, 1)
	h.receive(t, h.clients, data.frame(t))
	h.age(t, 60)
	action, _ = h.receive(t, h.clients, in.fromPort(40001).frame(t))
	wantAction(t, action, xdpDrop) // the only port is still the flow's
}

// A client that comes again from the port of a closed connection gets the same port, at once.
func TestClientPortIsReused(t *testing.T) {
	h := newNAT(t, 1000)
	in := fromClient(ProtocolTCP, client4, service4)
	_, first := h.receive(t, h.clients, in.frame(t))
	h.receive(t, h.clients, in.closing().frame(t))
	_, second := h.receive(t, h.clients, in.frame(t))
	if sourcePort(first) != sourcePort(second) {
		t.Errorf("port %d became %d", sourcePort(first), sourcePort(second))
	}
	status, _ := h.ServiceStatus(ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolTCP})
	if got := status.Backends[0].NewFlows; got != 2 {
		t.Errorf("%d new flows are counted, want 2", got)
	}
}

// When one of a flow's two records is evicted, the next packet that has the other restores it.
func TestEviction(t *testing.T) {
	in := fromClient(ProtocolTCP, client4, service4)
	reply := packet{
		from: serverMAC(11), to: serversMAC, source: addr("198.51.100.11"), target: addr("198.51.100.1"),
		sport: 80, dport: 5000, protocol: ProtocolTCP,
	}
	for name, test := range map[string]struct {
		evicted func(h *testHost) *ebpf.Map
		restore func(t *testing.T, h *testHost)
	}{
		"the client's": {
			func(h *testHost) *ebpf.Map { return h.objects.Flows4 },
			func(t *testing.T, h *testHost) { h.receive(t, h.servers, reply.frame(t)) },
		},
		"the backend's": {
			func(h *testHost) *ebpf.Map { return h.objects.Replies4 },
			func(t *testing.T, h *testHost) { h.receive(t, h.clients, in.frame(t)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newNAT(t, 1)
			h.receive(t, h.clients, in.frame(t))
			h.age(t, 1)
			evicted := test.evicted(h)
			for _, key := range keys(t, evicted) {
				must(t, evicted.Delete(key))
			}
			test.restore(t, h)
			if left := len(keys(t, evicted)); left != 1 {
				t.Fatalf("%d records after the next packet, want 1", left)
			}
			action, out := h.receive(t, h.servers, reply.frame(t))
			wantAction(t, action, xdpRedirect)
			want := reply.translated(service4, 80, client4, 40000)
			want.from, want.to = clientsMAC, clientMAC
			wantFrame(t, out, want.frame(t))
		})
	}
}

// A client's router that changes its MAC gets the answers at the new one within a tick.
func TestClientMoves(t *testing.T) {
	h := newNAT(t, 1)
	in := fromClient(ProtocolTCP, client4, service4)
	h.receive(t, h.clients, in.frame(t))
	h.age(t, 1)
	in.from = mac("02:00:00:00:01:77")
	h.receive(t, h.clients, in.frame(t))
	reply := packet{
		from: serverMAC(11), to: serversMAC, source: addr("198.51.100.11"), target: addr("198.51.100.1"),
		sport: 80, dport: 5000, protocol: ProtocolTCP,
	}
	_, out := h.receive(t, h.servers, reply.frame(t))
	want := reply.translated(service4, 80, client4, 40000)
	want.from, want.to = clientsMAC, in.from
	wantFrame(t, out, want.frame(t))
}

// A process that takes over finds everything as it was: flows stay, tables are not written again.
func TestAdopt(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	s := udpService(servers(numbers(11, 21), 100)...)
	six := oneBackend(ProtocolTCP, service6, ModeNAT, "2001:db8:2::b", 80)
	h.set(t, s)
	h.set(t, six)
	flows := make(map[uint16]netip.Addr)
	in := fromClient(ProtocolUDP, client4, service4)
	for port := range uint16(200) {
		flows[port] = h.backendOf(t, in.fromPort(port))
	}
	s.Backends[0].Down = true
	must(t, h.SetService(s))
	services, stats := h.Services(), h.Stats()
	must(t, h.Close())

	adopted := &testHost{Dataplane: openTest(t, options), namespace: h.namespace, clients: h.clients, servers: h.servers}
	found := adopted.Services()
	if len(found) != 2 || found[0].ServiceKey != services[0].ServiceKey || len(found[0].Backends) != 10 || !found[0].Backends[0].Down || found[1].Mode != ModeNAT {
		t.Fatalf("adopted %+v of %+v", found, services)
	}
	for port, backend := range flows {
		if got := adopted.backendOf(t, in.fromPort(port)); got != backend && backend != addr("198.51.100.11") {
			t.Errorf("the flow from port %d moved from %s to %s", port, backend, got)
		}
	}
	must(t, adopted.SetService(s))
	must(t, adopted.SetService(six))
	after := adopted.Stats()
	if after.TableRewrites != 0 || after.BackendsUsed != stats.BackendsUsed {
		t.Errorf("adopting turned %+v into %+v", stats, after)
	}
}

// Adopted next hops are looked up later, but not those that a new backend needs at once.
func TestNewBackendAtAdoptedAddress(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	h.set(t, udpService(servers(numbers(11, 61), 100)...))
	must(t, h.Close())
	for range 10 {
		adopted := &testHost{Dataplane: openTest(t, options), namespace: h.namespace, clients: h.clients, servers: h.servers}
		must(t, adopted.SetService(oneBackend(ProtocolUDP, "192.0.2.101", ModeL2, "198.51.100.50", 80)))
		if got := adopted.backendOf(t, fromClient(ProtocolUDP, client4, "192.0.2.101")); got != addr("198.51.100.50") {
			t.Errorf("the packet went to %s", got)
		}
		must(t, adopted.RemoveService(ServiceKey{Address: addr("192.0.2.101"), Port: 80, Protocol: ProtocolUDP}))
		must(t, adopted.Close())
	}
}

// What is pinned with other limits is not adopted by halves.
func TestAdoptOtherLimits(t *testing.T) {
	options := testOptions(t)
	inNamespace(t)
	d := openTest(t, options)
	must(t, d.SetService(udpService()))
	must(t, d.Close())
	options.Limits.Flows *= 2
	if d, err := Open(options); !errors.Is(err, ErrIncompatible) {
		t.Errorf("error is %v, want ErrIncompatible (%v)", err, d)
	}
}

func TestUnload(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	if _, err := h.Attach("eth0", XDPAuto); err != nil {
		t.Fatal(err)
	}
	must(t, h.Close())
	must(t, Unload(options.PinPath))
	if _, err := os.Stat(options.PinPath); !os.IsNotExist(err) {
		t.Errorf("the pin path is still there: %v", err)
	}
	must(t, Unload(options.PinPath))
}

// Neighbours that a resolver keeps are the kernel's again when all is unloaded, not before.
func TestUnloadReleasesNeighbours(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	address := net.ParseIP("198.51.100.200")
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: h.servers, IP: address, HardwareAddr: serverMAC(200), State: netlink.NUD_STALE, Flags: netlink.NTF_EXT_LEARNED,
	}))
	kept := func() bool {
		t.Helper()
		list, err := netlink.NeighList(h.servers, netlink.FAMILY_V4)
		must(t, err)
		return slices.ContainsFunc(list, func(n netlink.Neigh) bool {
			return n.IP.Equal(address) && n.Flags&netlink.NTF_EXT_LEARNED != 0
		})
	}
	h.set(t, udpService(servers([]int{200}, 100)...))
	must(t, h.Close())
	if !kept() {
		t.Error("the neighbour is not kept for the next process")
	}
	must(t, Unload(options.PinPath))
	if kept() {
		t.Error("the neighbour is kept for ever")
	}
}

// A flow that was remembered for every port of an address is not taken for one of a service that gets one of the
// ports, by a mode that its backend does not have. Nor is one that an ICMP error quotes.
func TestFlowOfAnotherService(t *testing.T) {
	for _, mode := range []Mode{ModeNAT, ModeL2, ModeIPIP} {
		for _, other := range []Mode{ModeNAT, ModeL2, ModeIPIP} {
			t.Run(fmt.Sprint(mode, " to ", other), func(t *testing.T) {
				h := newTestHost(t, testOptions(t))
				every := oneBackend(ProtocolUDP, service4, mode, "198.51.100.11", 0)
				every.Port = 0
				h.set(t, every)
				flow := fromClient(ProtocolUDP, client4, service4)
				if got := h.backendOf(t, flow); got != addr("198.51.100.11") {
					t.Fatalf("the flow goes to %s", got)
				}
				h.set(t, oneBackend(ProtocolUDP, service4, other, "198.51.100.12", 80))
				answer := between(service4, 80, client4, 40000)
				answer.protocol = ProtocolUDP
				action, out := h.receive(t, h.clients, icmpFrame(t, flow, 3, 3, quote(t, answer)))
				if other == ModeNAT {
					wantAction(t, action, xdpPass)
				} else if wantAction(t, action, xdpRedirect); serverOf(out[:6]) != addr("198.51.100.12") {
					t.Errorf("an error about the flow goes to %s", serverOf(out[:6]))
				}
				action, out = h.receive(t, h.clients, flow.frame(t))
				wantAction(t, action, xdpRedirect)
				switch want := flow.towards(12); other {
				case ModeL2:
					wantFrame(t, out, want.frame(t))
				case ModeIPIP:
					wantFrame(t, out, want.inside("198.51.100.1", "198.51.100.12").frame(t))
				case ModeNAT:
					wantFrame(t, out, want.translated("198.51.100.1", 5000, "198.51.100.12", 80).frame(t))
				}
			})
		}
	}
}

// A bucket that an older limit has filled for long is as full as the one of now can be.
func TestLoweredLimit(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := udpService(servers(fewServers, 100)...)
	s.Limit = Limit{Rate: 1, Burst: 1000}
	h.set(t, s)
	in := fromClient(ProtocolUDP, client4, service4)
	for port := range uint16(1000) {
		action, _ := h.receive(t, h.clients, in.fromPort(port+1).frame(t))
		wantAction(t, action, xdpRedirect)
	}
	s.Limit = Limit{Rate: 1000, Burst: 1000}
	h.set(t, s)
	before := h.due(t)
	action, _ := h.receive(t, h.clients, in.fromPort(2000).frame(t))
	wantAction(t, action, xdpDrop)
	if due := h.due(t); before-due < 900*time.Second {
		t.Errorf("the bucket lets flows pass at %s, and before at %s", due, before)
	}
}

// due reads when the next new flow of the only source is, after the start of the machine.
func (h *testHost) due(t *testing.T) time.Duration {
	t.Helper()
	var value uint64
	must(t, h.objects.Buckets.Lookup(keys(t, h.objects.Buckets)[0], &value))
	return time.Duration(value)
}
