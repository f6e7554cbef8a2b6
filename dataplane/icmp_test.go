package dataplane

import (
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// icmpFrame is a frame of ICMP or ICMPv6, by the family of the addresses.
func icmpFrame(t *testing.T, p packet, icmpType, code uint8, payload []byte) []byte {
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
				payload := append([]byte{0, 0, byte(test.mtu >> 8), byte(test.mtu)}, frame[14+4*tags:][:128]...)
				kind, code := uint8(3), uint8(4)
				if p.source.Is6() {
					kind, code = 2, 0
				}
				want := icmpFrame(t, p.back(), kind, code, payload)
				if p.source.Is4() {
					ip := want[14+4*tags:]
					ip[4], ip[5], ip[6] = 0, 0, 0 // no identification, may be fragmented
					binary.BigEndian.PutUint16(ip[10:], binary.BigEndian.Uint16(ip[10:])+7+0x4000)
				} else {
					binary.BigEndian.PutUint32(want[14+4*tags:], 6<<28) // no flow label
				}
				wantFrame(t, out, want)
				before["answer_too_big"]++
				wantReasons(t, h.reasons(t), before)
				h.forget(t)
			})
		}
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
