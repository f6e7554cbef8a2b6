package dataplane

import (
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
)

// icmpFrame is a frame of ICMP or ICMPv6, by the family of the addresses.
func icmpFrame(t testing.TB, p packet, icmpType, code uint8, payload []byte) []byte {
	t.Helper()
	p.protocol = protocolICMP
	if p.source.Is6() {
		p.protocol = protocolICMPv6
	}
	network := p.network()
	parts := []gopacket.SerializableLayer{network.(gopacket.SerializableLayer)}
	if p.source.Is4() {
		id, seq := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
		parts = append(parts, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(icmpType, code), Id: id, Seq: seq}, gopacket.Payload(payload[4:]))
	} else {
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(icmpType, code)}
		must(t, icmp.SetNetworkLayerForChecksum(network))
		parts = append(parts, icmp, gopacket.Payload(payload))
	}
	link := serialise(t, p.link()...)
	return append(link[:14+4*len(p.vlans)], serialise(t, parts...)...)
}

// back is the packet from the service to the client, as Sluice itself sends it.
func (p packet) back() packet {
	p.from, p.to, p.source, p.target = p.to, p.from, p.target, p.source
	p.ttl = 64
	return p
}

// An echo request for a service's address is answered, of whatever size and VLAN.
func TestEcho(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80))
	h.set(t, oneBackend(ProtocolTCP, service6, ModeNAT, "2001:db8:2::b", 80))
	for _, client := range []struct {
		from, to       string
		request, reply uint8
	}{{client4, service4, 8, 0}, {client6, service6, 128, 129}} {
		for _, size := range []int{4, 5, 60, 1400} {
			for tags := range 3 {
				p := fromClient(ProtocolTCP, client.from, client.to).tagged([]uint16{7, 8}[:tags]...)
				p.ttl = 3
				payload := make([]byte, size)
				for i := range payload {
					payload[i] = byte(i * 7)
				}
				before := h.reasons(t)
				action, out := h.receive(t, h.clients, icmpFrame(t, p, client.request, 0, payload))
				wantAction(t, action, xdpTX)
				want := icmpFrame(t, p.back(), client.reply, 0, payload)
				if p.source.Is6() {
					binary.BigEndian.PutUint32(want[14+4*tags:], 6<<28|99) // the flow label stays
				}
				wantFrame(t, out, want)
				before["answer_echo"]++
				wantReasons(t, h.reasons(t), before)
			}
		}
	}
}

// Any other ICMP, and echo requests for other addresses, are the host's.
func TestNoEcho(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80)
	other := s
	other.Port = 81
	h.set(t, s)
	h.set(t, other)
	request := func(target string) []byte {
		return icmpFrame(t, fromClient(ProtocolTCP, client4, target), 8, 0, []byte("payload"))
	}
	passes := func(frame []byte) {
		t.Helper()
		action, out := h.receive(t, h.clients, frame)
		wantAction(t, action, xdpPass)
		wantFrame(t, out, frame)
	}
	passes(request("192.0.2.101"))
	passes(icmpFrame(t, fromClient(ProtocolTCP, client4, service4), 13, 0, []byte("timestamp")))
	passes(icmpFrame(t, fromClient(ProtocolTCP, client4, service4), 0, 0, []byte("reply")))
	must(t, h.RemoveService(s.ServiceKey))
	action, _ := h.receive(t, h.clients, request(service4))
	wantAction(t, action, xdpTX) // the other service has the address too
	must(t, h.RemoveService(other.ServiceKey))
	passes(request(service4))
}

// A packet that does not fit with its outer header tells its sender the MTU that would (RFC 1191, RFC 8201).
func TestTooBig(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, test := range map[string]struct {
		client, service, backend string
		mtu                      uint16
	}{
		"4in4": {client4, service4, "198.51.100.11", 1480},
		"6in4": {client6, service6, "198.51.100.11", 1480},
		"4in6": {client4, service4, "2001:db8:2::b", 1460},
		"6in6": {client6, service6, "2001:db8:2::b", 1460},
	} {
		for tags := range 3 {
			t.Run(name, func(t *testing.T) {
				h := h.here(t)
				h.set(t, oneBackend(ProtocolTCP, test.service, ModeIPIP, test.backend, 80))
				p := fromClient(ProtocolTCP, test.client, test.service).tagged([]uint16{7, 8}[:tags]...)
				p.payload = string(make([]byte, 1450))
				frame := p.frame(t)
				before := h.reasons(t)
				action, out := h.receive(t, h.clients, frame)
				wantAction(t, action, xdpTX)
				wantFrame(t, out, tooBig(t, p, test.mtu))
				before["answer_too_big"]++
				wantReasons(t, h.reasons(t), before)
				h.forget(t)
			})
		}
	}
}

// tooBig is the answer to a packet that does not fit: it quotes the first 128 bytes.
func tooBig(t testing.TB, p packet, mtu uint16) []byte {
	t.Helper()
	l3 := 14 + 4*len(p.vlans)
	payload := append([]byte{0, 0, byte(mtu >> 8), byte(mtu)}, p.frame(t)[l3:][:128]...)
	if p.source.Is6() {
		answer := icmpFrame(t, p.back(), 2, 0, payload)
		binary.BigEndian.PutUint32(answer[l3:], 6<<28) // no flow label
		return answer
	}
	answer := icmpFrame(t, p.back(), 3, 4, payload)
	ip := answer[l3:]
	ip[4], ip[5], ip[6] = 0, 0, 0 // no identification, may be fragmented
	sum := uint32(binary.BigEndian.Uint16(ip[10:])) + 7 + 0x4000
	binary.BigEndian.PutUint16(ip[10:], uint16(sum+sum>>16))
	return answer
}

// A reply that does not fit the interface which its client is behind tells the backend so.
func TestReplyTooBig(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetMTU(eth0, 1300))
	for name, c := range errorCases {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			h.set(t, oneBackend(ProtocolTCP, c.service, ModeNAT, c.backend, 8080))
			h.receive(t, h.clients, fromClient(ProtocolTCP, c.client, c.service).frame(t))
			reply := between(c.backend, 8080, c.self, 5000)
			headers := len(reply.frame(t)) - 14
			reply.payload = string(make([]byte, 1300-headers))
			action, _ := h.receive(t, h.servers, reply.frame(t))
			wantAction(t, action, xdpRedirect)
			before := h.reasons(t)
			reply.payload += "1"
			action, out := h.receive(t, h.servers, reply.frame(t))
			wantAction(t, action, xdpTX)
			wantFrame(t, out, tooBig(t, reply, 1300))
			before["answer_too_big"]++
			wantReasons(t, h.reasons(t), before)
		})
	}
}

// Errors are limited, so that nobody has Sluice send more than a trickle of them.
func TestTooBigIsLimited(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, oneBackend(ProtocolTCP, service4, ModeIPIP, "198.51.100.11", 80))
	p := fromClient(ProtocolTCP, client4, service4)
	p.payload = string(make([]byte, 1460))
	frame := p.frame(t)
	for range 20000 {
		h.receive(t, h.clients, frame)
	}
	reasons := h.reasons(t)
	if reasons["drop_too_big"] == 0 || reasons["answer_too_big"]+reasons["drop_too_big"] != 20000 {
		t.Errorf("20,000 packets were answered %d times and dropped %d times", reasons["answer_too_big"], reasons["drop_too_big"])
	}
}

// quote is what an error says of a packet: an MTU, its IP header and 8 bytes more.
func quote(t testing.TB, p packet) []byte {
	t.Helper()
	length := 20 + 8
	if p.source.Is6() {
		length = 40 + 8
	}
	return append([]byte{0, 0, 1400 >> 8, 1400 & 255}, p.frame(t)[14:][:length]...)
}

// errorCase is one family's addresses, and what says "too big" there.
type errorCase struct {
	client, service, backend, self, clientRouter, serverRouter string
	kind, code                                                 uint8
}

var errorCases = map[string]errorCase{
	"IPv4": {client4, service4, "198.51.100.11", "198.51.100.1", "192.0.2.254", "198.51.100.254", 3, 4},
	"IPv6": {client6, service6, "2001:db8:2::b", "2001:db8:2::1", "2001:db8:1::fe", "2001:db8:2::fe", 2, 0},
}

// between is a TCP packet from one to the other.
func between(source string, sport uint16, target string, dport uint16) packet {
	return packet{from: clientMAC, to: clientsMAC, source: addr(source), target: addr(target), sport: sport, dport: dport, protocol: ProtocolTCP}
}

// An error that a router towards the client sends to the service reaches the backend whose packet it quotes.
func TestErrorReachesBackend(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, c := range errorCases {
		for _, mode := range []Mode{ModeNAT, ModeL2, ModeIPIP} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				h := h.here(t)
				s := oneBackend(ProtocolTCP, c.service, mode, c.backend, 80)
				if mode == ModeNAT {
					s.Backends[0].Port = 8080
				}
				h.set(t, s)
				h.receive(t, h.clients, fromClient(ProtocolTCP, c.client, c.service).frame(t))
				in := packet{from: clientMAC, to: clientsMAC, source: addr(c.clientRouter), target: addr(c.service)}
				payload := quote(t, between(c.service, 80, c.client, 40000))
				action, out := h.receive(t, h.clients, icmpFrame(t, in, c.kind, c.code, payload))
				wantAction(t, action, xdpRedirect)
				want := in.towards(11)
				switch mode {
				case ModeNAT:
					want.target, want.ttl = addr(c.backend), 63
					payload = quote(t, between(c.backend, 8080, c.self, 5000))
				case ModeIPIP:
					out = append(out[:14:14], out[14+len(outerOf(out)):]...)
				}
				wantFrame(t, out, icmpFrame(t, want, c.kind, c.code, payload))
				status, _ := h.ServiceStatus(s.ServiceKey)
				if got := status.Backends[0].Counters; got.Packets != 2 || got.NewFlows != 1 {
					t.Errorf("counters are %+v", got)
				}
				h.forget(t)
			})
		}
	}
}

// outerOf is the outer IP header of a frame.
func outerOf(frame []byte) []byte {
	if frame[14]>>4 == 4 {
		return frame[14:][:20]
	}
	return frame[14:][:40]
}

// An error that a router towards the backend sends about a client's packet reaches the client, in its terms: from the
// service, for the router may be one of a network that clients' networks know nothing of.
func TestErrorReachesClient(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, c := range errorCases {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			h.set(t, oneBackend(ProtocolTCP, c.service, ModeNAT, c.backend, 8080))
			h.receive(t, h.clients, fromClient(ProtocolTCP, c.client, c.service).tagged(7).frame(t))
			in := packet{from: serverMAC(0xfe), to: serversMAC, source: addr(c.serverRouter), target: addr(c.self)}
			action, out := h.receive(t, h.servers, icmpFrame(t, in, c.kind, c.code, quote(t, between(c.self, 5000, c.backend, 8080))))
			wantAction(t, action, xdpRedirect)
			want := in.tagged(7)
			want.from, want.to, want.source, want.target, want.ttl = clientsMAC, clientMAC, addr(c.service), addr(c.client), 63
			wantFrame(t, out, icmpFrame(t, want, c.kind, c.code, quote(t, between(c.client, 40000, c.service, 80))))
			h.forget(t)
		})
	}
}

// Errors about what is no flow of a service are the host's.
func TestErrorPasses(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for name, c := range errorCases {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			h.set(t, oneBackend(ProtocolTCP, c.service, ModeNAT, c.backend, 8080))
			in := packet{from: clientMAC, to: clientsMAC, source: addr(c.clientRouter), target: addr(c.service)}
			for reason, quoted := range map[string]packet{
				"pass_no_flow":    between(c.service, 80, c.client, 40000),
				"pass_no_service": between(c.service, 81, c.client, 40000),
			} {
				before := h.reasons(t)
				frame := icmpFrame(t, in, c.kind, c.code, quote(t, quoted))
				action, out := h.receive(t, h.clients, frame)
				wantAction(t, action, xdpPass)
				wantFrame(t, out, frame)
				before[reason]++
				wantReasons(t, h.reasons(t), before)
			}
			cut := icmpFrame(t, in, c.kind, c.code, quote(t, between(c.service, 80, c.client, 40000))[:20])
			action, out := h.receive(t, h.clients, cut)
			wantAction(t, action, xdpPass)
			wantFrame(t, out, cut)
		})
	}
}
