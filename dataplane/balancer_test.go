package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicelb/sluice/dataplane/nexthop"
)

// fromClient is a packet of a client in front of eth0; the tests change what they are about.
func fromClient(protocol Protocol, source, target string) packet {
	return packet{
		from: clientMAC, to: clientsMAC, source: addr(source), target: addr(target),
		sport: 40000, dport: 80, protocol: protocol, syn: protocol == ProtocolTCP, payload: "payload",
	}
}

// oneBackend is a service on port 80 of the target with a single backend.
func oneBackend(protocol Protocol, target string, mode Mode, backend string, port uint16) Service {
	return Service{
		ServiceKey: ServiceKey{Address: addr(target), Port: 80, Protocol: protocol}, Mode: mode,
		Backends: []Backend{{Address: addr(backend), Port: port, Weight: 100}},
	}
}

// towards is the packet with the link header that brings it to server n behind eth1.
func (p packet) towards(n int) packet {
	p.from, p.to = serversMAC, serverMAC(n)
	return p
}

// translated is the packet as nat sends it on.
func (p packet) translated(source string, sport uint16, target string, dport uint16) packet {
	p.source, p.sport, p.target, p.dport = addr(source), sport, addr(target), dport
	p.ttl = 63
	return p
}

// inside is the packet in an outer header.
func (p packet) inside(source, target string) packet {
	p.outer = &outer{source: addr(source), target: addr(target), flowLabel: flowLabel(p)}
	return p
}

// insideGUE is the packet in UDP.
func (p packet) insideGUE(source, target string) packet {
	p = p.inside(source, target)
	p.outer.port = 49152 | uint16(flowHash(p)&(1<<14-1))
	return p
}

// flowLabel is what bpf/hash.h and bpf/encap.h compute for a flow, written a second time.
func flowLabel(p packet) uint32 { return flowHash(p) >> 12 }

func flowHash(p packet) uint32 {
	mix := func(x uint64) uint64 {
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		return x ^ x>>33
	}
	keys := hashKeys(0)
	ports := uint64(network16(p.sport)) | uint64(network16(p.dport))<<16
	sum := keys[0] + keys[1]*ports + keys[2]*uint64(p.protocol)
	words, second := p.source.AsSlice(), 3+len(p.source.AsSlice())/4
	for i := 0; i < len(words); i += 4 {
		sum += keys[3+i/4]*uint64(binary.LittleEndian.Uint32(words[i:])) + keys[second+i/4]*uint64(binary.LittleEndian.Uint32(p.target.AsSlice()[i:]))
	}
	return uint32(mix(sum) >> 32)
}

// What hosts with different versions must agree on.
func TestHashKeysAreForever(t *testing.T) {
	// The first numbers that the authors' SplittableRandom of the seed 0 makes.
	for i, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		if got := hashKeys(0)[i]; got != want {
			t.Errorf("key %d is %#x, want %#x", i, got, want)
		}
	}
	if hashKeys(1) == hashKeys(0) {
		t.Error("another seed has the same keys")
	}
	if got := flowHash(fromClient(ProtocolTCP, client4, service4)); got != 0x5b1ba65e {
		t.Errorf("a flow has the hash %#x", got)
	}
}

func (p packet) tagged(ids ...uint16) packet {
	p.vlans = ids
	return p
}

const (
	client4, client6   = "192.0.2.9", "2001:db8:1::9"
	service4, service6 = "192.0.2.100", "2001:db8:1::100"
)

// Every mode, family and protocol: what goes out is defined to the last byte.
func TestForward(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP} {
		in4, in6 := fromClient(protocol, client4, service4), fromClient(protocol, client6, service6)
		for name, test := range map[string]struct {
			service Service
			in      packet
			want    packet
		}{
			"nat 4":     {oneBackend(protocol, service4, ModeNAT, "198.51.100.11", 8080), in4, in4.towards(11).translated("198.51.100.1", 5000, "198.51.100.11", 8080)},
			"nat 6":     {oneBackend(protocol, service6, ModeNAT, "2001:db8:2::11", 8080), in6, in6.towards(0x11).translated("2001:db8:2::1", 5000, "2001:db8:2::11", 8080)},
			"l2 4":      {oneBackend(protocol, service4, ModeL2, "198.51.100.11", 80), in4, in4.towards(11)},
			"l2 6":      {oneBackend(protocol, service6, ModeL2, "2001:db8:2::11", 80), in6, in6.towards(0x11)},
			"ipip 4in4": {oneBackend(protocol, service4, ModeIPIP, "198.51.100.11", 80), in4, in4.towards(11).inside("198.51.100.1", "198.51.100.11")},
			"ipip 6in4": {oneBackend(protocol, service6, ModeIPIP, "198.51.100.11", 80), in6, in6.towards(11).inside("198.51.100.1", "198.51.100.11")},
			"ipip 4in6": {oneBackend(protocol, service4, ModeIPIP, "2001:db8:2::11", 80), in4, in4.towards(0x11).inside("2001:db8:2::1", "2001:db8:2::11")},
			"ipip 6in6": {oneBackend(protocol, service6, ModeIPIP, "2001:db8:2::11", 80), in6, in6.towards(0x11).inside("2001:db8:2::1", "2001:db8:2::11")},
			"gue 4in4":  {oneBackend(protocol, service4, ModeGUE, "198.51.100.11", 80), in4, in4.towards(11).insideGUE("198.51.100.1", "198.51.100.11")},
			"gue 6in4":  {oneBackend(protocol, service6, ModeGUE, "198.51.100.11", 80), in6, in6.towards(11).insideGUE("198.51.100.1", "198.51.100.11")},
			"gue 4in6":  {oneBackend(protocol, service4, ModeGUE, "2001:db8:2::11", 80), in4, in4.towards(0x11).insideGUE("2001:db8:2::1", "2001:db8:2::11")},
			"gue 6in6":  {oneBackend(protocol, service6, ModeGUE, "2001:db8:2::11", 80), in6, in6.towards(0x11).insideGUE("2001:db8:2::1", "2001:db8:2::11")},
			"kept port": {oneBackend(protocol, service4, ModeNAT, "198.51.100.11", 0), in4, in4.towards(11).translated("198.51.100.1", 5000, "198.51.100.11", 80)},
		} {
			t.Run(protocol.String()+" "+name, func(t *testing.T) {
				h := h.here(t)
				h.set(t, test.service)
				action, out := h.receive(t, h.clients, test.in.frame(t))
				wantAction(t, action, xdpRedirect)
				wantFrame(t, out, test.want.frame(t))
				must(t, h.RemoveService(test.service.ServiceKey))
				h.forget(t)
			})
		}
	}
}

// Odd but legal packets keep their oddity.
func TestForwardOddities(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	tcp4, tcp6 := fromClient(ProtocolTCP, client4, service4), fromClient(ProtocolTCP, client6, service6)
	udp4 := fromClient(ProtocolUDP, client4, service4)
	with := func(p packet, change func(*packet)) packet { change(&p); return p }
	extensions := func(p *packet) {
		p.firstExtension = layers.IPProtocolIPv6Destination
		p.extensions = []byte{
			51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // destination options of 16 bytes, then authentication
			6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, // authentication header of 12 bytes, then TCP
		}
	}
	for name, in := range map[string]packet{
		"one VLAN tag":        with(tcp4, func(p *packet) { p.vlans = []uint16{7} }),
		"two VLAN tags":       with(tcp4, func(p *packet) { p.vlans = []uint16{7, 8} }),
		"two VLAN tags, IPv6": with(tcp6, func(p *packet) { p.vlans = []uint16{7, 8} }),
		"IPv4 options": with(tcp4, func(p *packet) {
			p.options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
		}),
		"DSCP and ECN":       with(tcp4, func(p *packet) { p.tos = 0xb9 }),
		"DSCP and ECN, IPv6": with(tcp6, func(p *packet) { p.tos = 0xb9 }),
		"UDP, no checksum":   with(udp4, func(p *packet) { p.noChecksum = true }),
		"empty datagram":     with(udp4, func(p *packet) { p.payload = "" }),
		"Ethernet padding":   with(udp4, func(p *packet) { p.padding = 11 }),
		"odd length":         with(udp4, func(p *packet) { p.payload = "odd" }),
		"extension headers":  with(tcp6, extensions),
		"large":              with(tcp4, func(p *packet) { p.payload = string(make([]byte, 1400)) }),
	} {
		for _, mode := range []Mode{ModeNAT, ModeL2, ModeIPIP, ModeGUE} {
			t.Run(fmt.Sprint(mode, " ", name), func(t *testing.T) {
				h := h.here(t)
				backend, self := "198.51.100.11", "198.51.100.1"
				if in.source.Is6() {
					backend, self = "2001:db8:2::b", "2001:db8:2::1"
				}
				h.set(t, oneBackend(in.protocol, in.target.String(), mode, backend, 80))
				want := in.towards(11)
				want.vlans = nil
				switch mode {
				case ModeNAT:
					want = want.translated(self, 5000, backend, 80)
				case ModeGUE:
					want = want.insideGUE(self, backend)
				case ModeIPIP:
					want = want.inside(self, backend)
				}
				action, out := h.receive(t, h.clients, in.frame(t))
				wantAction(t, action, xdpRedirect)
				wantFrame(t, out, want.frame(t))
				h.forget(t)
			})
		}
	}
}

func wantAction(t testing.TB, got, want uint32) {
	t.Helper()
	if got != want {
		t.Fatalf("action is %s, want %s", actionNames[got], actionNames[want])
	}
}

// A backend behind the interface that clients come in by is reached by XDP_TX.
func TestForwardSameInterface(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	in := fromClient(ProtocolTCP, client4, service4)
	h.set(t, oneBackend(ProtocolTCP, service4, ModeL2, "192.0.2.11", 80))
	action, out := h.receive(t, h.clients, in.frame(t))
	wantAction(t, action, xdpTX)
	in.from, in.to = clientsMAC, serverMAC(11)
	wantFrame(t, out, in.frame(t))
}

// A backend behind VLANs gets their tags, whatever tags the packet had. The next hop is given by hand, for
// not every kernel has VLAN interfaces.
func TestForwardVLAN(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	in := fromClient(ProtocolTCP, client4, service4)
	h.set(t, oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80))
	for _, ids := range [][]uint16{{20}, {30, 40}, nil} {
		h.hopChanged(addr("198.51.100.11"), &nexthop.Hop{
			Resolved: true, Index: h.servers, MAC: serverMAC(11), LocalMAC: serversMAC, MTU: 1500, VLANs: ids,
		})
		for _, before := range [][]uint16{nil, {7}, {7, 8}} {
			_, out := h.receive(t, h.clients, in.tagged(before...).frame(t))
			wantFrame(t, out, in.towards(11).tagged(ids...).frame(t))
		}
	}
}

// A service on every port keeps the port, and one on a port of its own comes first.
func TestEveryPort(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	every, one := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 0), oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.12", 8080)
	every.Port = 0
	h.set(t, every)
	h.set(t, one)
	in := fromClient(ProtocolTCP, client4, service4)
	_, out := h.receive(t, h.clients, in.frame(t))
	wantFrame(t, out, in.towards(12).translated("198.51.100.1", 5000, "198.51.100.12", 8080).frame(t))
	in.dport = 8443
	_, out = h.receive(t, h.clients, in.frame(t))
	wantFrame(t, out, in.towards(11).translated("198.51.100.1", 5000, "198.51.100.11", 8443).frame(t))
}

// What is not for a service passes untouched, and is counted by its reason.
func TestPass(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80))
	h.set(t, oneBackend(ProtocolTCP, service6, ModeNAT, "2001:db8:2::11", 80))
	tcp4, tcp6 := fromClient(ProtocolTCP, client4, service4), fromClient(ProtocolTCP, client6, service6)
	edit := func(p packet, change func(frame []byte)) []byte { b := p.frame(t); change(b); return b }
	routing := tcp6
	routing.firstExtension = layers.IPProtocolIPv6Routing
	routing.extensions = []byte{6, 0, 4, 1, 0, 0, 0, 0}
	chain := tcp6
	chain.firstExtension = layers.IPProtocolIPv6Destination
	for range 8 {
		chain.extensions = append(chain.extensions, 60, 0, 1, 4, 0, 0, 0, 0)
	}
	chain.extensions = append(chain.extensions, 6, 0, 1, 4, 0, 0, 0, 0)
	other := func(change func(*packet)) []byte { p := tcp4; change(&p); return p.frame(t) }
	for name, test := range map[string]struct {
		reason string
		frame  []byte
	}{
		"another address":        {"pass_no_service", other(func(p *packet) { p.target = addr("192.0.2.101") })},
		"another port":           {"pass_no_service", other(func(p *packet) { p.dport = 81 })},
		"another protocol":       {"pass_no_service", other(func(p *packet) { p.protocol = ProtocolUDP })},
		"ICMP":                   {"pass_no_service", edit(tcp4, func(b []byte) { b[14+9] = 1 })},
		"ICMPv6":                 {"pass_no_service", edit(tcp6, func(b []byte) { b[14+6] = 58 })},
		"ARP":                    {"pass_not_ip", edit(tcp4, func(b []byte) { b[12], b[13] = 0x08, 0x06 })},
		"three VLAN tags":        {"pass_not_ip", edit(tcp4.tagged(1, 2), func(b []byte) { b[20], b[21] = 0x81, 0x00 })},
		"segments left":          {"pass_extension_headers", routing.frame(t)},
		"nine extension headers": {"pass_extension_headers", chain.frame(t)},
		"Ethernet header only":   {"pass_malformed", tcp4.frame(t)[:14]},
		"cut VLAN tag":           {"pass_malformed", tcp4.tagged(1).frame(t)[:16]},
		"cut IPv4 header":        {"pass_malformed", tcp4.frame(t)[:14+19]},
		"cut IPv6 header":        {"pass_malformed", tcp6.frame(t)[:14+39]},
		"cut TCP header":         {"pass_malformed", edit(tcp4, func(b []byte) { binary.BigEndian.PutUint16(b[16:], 39) })[:14+39]},
		"short header length":    {"pass_malformed", edit(tcp4, func(b []byte) { b[14] = 0x44 })},
		"longer than its frame":  {"pass_malformed", edit(tcp4, func(b []byte) { b[16]++ })},
		"IPv6 longer than frame": {"pass_malformed", edit(tcp6, func(b []byte) { b[18]++ })},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			before := h.reasons(t)
			action, out := h.receive(t, h.clients, test.frame)
			wantAction(t, action, xdpPass)
			wantFrame(t, out, test.frame)
			before[test.reason]++
			wantReasons(t, h.reasons(t), before)
		})
	}
}

// Every drop has a reason of its own.
func TestDrop(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	in := fromClient(ProtocolTCP, client4, service4)
	large, dying := in, in
	large.payload, large.mayFragment = string(make([]byte, 1500-20-20)), true
	dying.ttl = 1
	full := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80)
	unweighted := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80)
	unweighted.Backends[0].Weight = 0
	for name, test := range map[string]struct {
		reason  string
		service Service
		in      []packet // the last one is dropped
	}{
		"no backend":            {"drop_no_backend", Service{ServiceKey: full.ServiceKey}, []packet{in}},
		"no weight":             {"drop_no_backend", unweighted, []packet{in}},
		"unknown neighbour":     {"drop_next_hop_unresolved", oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.250", 80), []packet{in}},
		"last hop":              {"drop_ttl_expired", full, []packet{dying}},
		"too big, may fragment": {"drop_too_big", oneBackend(ProtocolTCP, service4, ModeIPIP, "198.51.100.11", 80), []packet{large}},
		"second flow, 1 port":   {"drop_nat_ports_exhausted", full, []packet{in, in.fromPort(40001)}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			must(t, h.SetService(test.service))
			before := h.reasons(t)
			for i, p := range test.in {
				action, _ := h.receive(t, h.clients, p.frame(t))
				if i == len(test.in)-1 {
					wantAction(t, action, xdpDrop)
				} else {
					wantAction(t, action, xdpRedirect)
				}
			}
			before[test.reason]++
			wantReasons(t, h.reasons(t), before)
			h.forget(t)
		})
	}
}

func (p packet) fromPort(port uint16) packet {
	p.sport = port
	return p
}

// A packet that just fits the way to its backend is not dropped.
func TestLargestPacket(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	in := fromClient(ProtocolTCP, client4, service4)
	in.payload = string(make([]byte, 1500-20-20-20))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeIPIP, "198.51.100.11", 80))
	action, _ := h.receive(t, h.clients, in.frame(t))
	wantAction(t, action, xdpRedirect)
}

// The backend's answer goes back by the way the client's packet came, as the service.
func TestReply(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, test := range map[string]struct{ service, client, backend, self string }{
		"IPv4": {service4, client4, "198.51.100.11", "198.51.100.1"},
		"IPv6": {service6, client6, "2001:db8:2::b", "2001:db8:2::1"},
	} {
		for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP} {
			for _, tags := range [][]uint16{nil, {7}, {7, 8}} {
				t.Run(fmt.Sprint(name, " ", protocol, " ", len(tags), " tags"), func(t *testing.T) {
					h := h.here(t)
					h.set(t, oneBackend(protocol, test.service, ModeNAT, test.backend, 8080))
					h.receive(t, h.clients, fromClient(protocol, test.client, test.service).tagged(tags...).frame(t))
					reply := packet{
						from: serverMAC(11), to: serversMAC, source: addr(test.backend), target: addr(test.self),
						sport: 8080, dport: 5000, protocol: protocol, payload: "answer",
					}
					action, out := h.receive(t, h.servers, reply.frame(t))
					wantAction(t, action, xdpRedirect)
					want := reply.translated(test.service, 80, test.client, 40000).tagged(tags...)
					want.from, want.to = clientsMAC, clientMAC
					wantFrame(t, out, want.frame(t))
					h.forget(t)
				})
			}
		}
	}
}

// The answer has tags of the kinds that the request had, also where they are not the standard's.
func TestReplyTags(t *testing.T) {
	h := newNAT(t, 1)
	reply := packet{
		from: serverMAC(11), to: serversMAC, source: addr("198.51.100.11"), target: addr("198.51.100.1"),
		sport: 80, dport: 5000, protocol: ProtocolTCP,
	}
	for _, test := range []struct {
		tags []uint16
		kind uint16
	}{{[]uint16{7}, 0x8100}, {[]uint16{7}, 0x88a8}, {[]uint16{7, 8}, 0x8100}, {[]uint16{7, 8}, 0x88a8}} {
		frame := fromClient(ProtocolTCP, client4, service4).tagged(test.tags...).frame(t)
		binary.BigEndian.PutUint16(frame[12:], test.kind)
		h.receive(t, h.clients, frame)
		_, out := h.receive(t, h.servers, reply.frame(t))
		want := reply.translated(service4, 80, client4, 40000).tagged(test.tags...)
		want.from, want.to = clientsMAC, clientMAC
		wanted := want.frame(t)
		binary.BigEndian.PutUint16(wanted[12:], test.kind)
		wantFrame(t, out, wanted)
		h.forget(t)
	}
}

// What looks like an answer but is none passes untouched.
func TestNoReply(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 8080))
	h.receive(t, h.clients, fromClient(ProtocolTCP, client4, service4).frame(t))
	reply := packet{
		from: serverMAC(11), to: serversMAC, source: addr("198.51.100.11"), target: addr("198.51.100.1"),
		sport: 8080, dport: 5000, protocol: ProtocolTCP,
	}
	for name, change := range map[string]func(*packet){
		"another server":   func(p *packet) { p.source = addr("198.51.100.12") },
		"another port":     func(p *packet) { p.sport = 8081 },
		"another protocol": func(p *packet) { p.protocol = ProtocolUDP },
		"port of the host": func(p *packet) { p.dport = 5001 },
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			p := reply
			change(&p)
			action, out := h.receive(t, h.servers, p.frame(t))
			wantAction(t, action, xdpPass)
			wantFrame(t, out, p.frame(t))
		})
	}
}

// reasons returns what Reasons counts.
func (h *testHost) reasons(t testing.TB) map[string]uint64 {
	t.Helper()
	reasons, err := h.Reasons()
	must(t, err)
	return reasons
}

func wantReasons(t testing.TB, got, want map[string]uint64) {
	t.Helper()
	for reason := range want {
		if got[reason] != want[reason] {
			t.Errorf("%s counts %d, want %d", reason, got[reason], want[reason])
		}
	}
}

// backendOf tells which of several backends a packet would reach, by its address.
func (h *testHost) backendOf(t testing.TB, p packet) netip.Addr {
	t.Helper()
	action, out := h.receive(t, h.clients, p.frame(t))
	wantAction(t, action, xdpRedirect)
	return serverOf(out)
}

// serverOf reads the number of a server out of the destination MAC of a frame, as an IPv4 address.
func serverOf(frame []byte) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, 100, frame[5]})
}
