package packets

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopacket/gopacket/layers"
)

// What every group has around it: a router that clients are behind, and this host.
var (
	routerMAC = mac("02:00:00:00:00:01")
	hostMAC   = mac("02:00:00:00:00:02")
)

const (
	client4, client6 = "192.0.2.10", "2001:db8:1::10"
	vip4, vip6       = "203.0.113.1", "2001:db8:53::1"

	// Where this host's address of a family is not known from the service.
	self4, self6 = "192.0.0.8", "100::"
)

// service is one of a group's configuration.
type service struct {
	name     string
	mode     string
	protocol string
	address  netip.Addr
	port     uint16   // 0 is every port
	extra    []string // further lines of YAML
	servers  []server
}

// server is a backend.
type server struct {
	name    string
	address netip.Addr
	port    uint16 // 0 is the service's
	number  byte   // the last of its MAC
	extra   string // further keys of YAML
}

func (s server) mac() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 1, s.number} }

// newServer is the nth server of the family that a service with the address can use in nat mode.
func newServer(n byte, family netip.Addr) server {
	address := netip.AddrFrom4([4]byte{198, 51, 100, n})
	if family.Is6() {
		address = addr(fmt.Sprintf("2001:db8:2::%d", n))
	}
	return server{name: fmt.Sprintf("b%d", n), address: address, number: n}
}

// newService is a service on port 80 with the servers 1 to n of its family.
func newService(name, mode, protocol, address string, n int) service {
	s := service{name: name, mode: mode, protocol: protocol, address: addr(address), port: 80}
	for i := range n {
		s.servers = append(s.servers, newServer(byte(i+1), s.address))
	}
	return s
}

// yaml is the service as sluice apply reads it.
func (s service) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    address: %q\n", s.name, s.address)
	if s.port != 0 {
		fmt.Fprintf(&b, "    port: %d\n", s.port)
	}
	fmt.Fprintf(&b, "    protocol: %s\n    mode: %s\n", s.protocol, s.mode)
	for _, line := range s.extra {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	if len(s.servers) > 0 {
		b.WriteString("    backends:\n")
	}
	for _, server := range s.servers {
		fmt.Fprintf(&b, "      - {name: %s, address: %q, mac: %q", server.name, server.address, server.mac())
		if server.port != 0 {
			fmt.Fprintf(&b, ", port: %d", server.port)
		}
		if server.extra != "" {
			b.WriteString(", " + server.extra)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// self is this host's address towards a backend of the service.
func (s service) self(b server) netip.Addr {
	switch {
	case b.address.Is4() == s.address.Is4():
		return s.address
	case b.address.Is4():
		return addr(self4)
	}
	return addr(self6)
}

// towards is a client's packet as the service's mode sends it to a backend.
func (s service) towards(b server, in packet) packet {
	out := in
	out.from, out.to, out.tags = in.to, b.mac(), nil
	switch s.mode {
	case "nat":
		out.source, out.target, out.ttl = s.self(b), b.address, in.ttl-1
		out.sport = placeholder
		if b.port != 0 {
			out.dport = b.port
		}
	case "ipip", "gue":
		out.outer = &outer{source: s.self(b), target: b.address, gue: s.mode == "gue"}
	}
	return out
}

// reply is what a backend answers to a client's packet, as it arrives in nat mode: to a port that is learnt
// from an earlier case.
func (s service) reply(b server, in packet) packet {
	out := s.towards(b, in)
	out.from, out.to = b.mac(), in.to
	out.source, out.target, out.sport, out.dport = out.target, out.source, out.dport, out.sport
	out.ttl, out.flags, out.payload = 60, "A", []byte("answer")
	return out
}

// answer is the same as it reaches the client.
func (s service) answer(b server, in packet) packet {
	out := s.reply(b, in)
	out.from, out.to, out.tags = in.to, in.from, replyTags(in.tags)
	out.source, out.target, out.sport, out.dport = in.target, in.source, in.dport, in.sport
	out.ttl--
	return out
}

// replyTags are the tags of a request without priorities; tags of VLAN 0 are none.
func replyTags(tags []tag) []tag {
	var kept []tag
	for _, t := range tags {
		if t.vlan != 0 {
			kept = append(kept, tag{kind: t.kind, vlan: t.vlan})
		}
	}
	return kept
}

var protocols = map[string]layers.IPProtocol{
	"tcp": layers.IPProtocolTCP, "udp": layers.IPProtocolUDP, "sctp": layers.IPProtocolSCTP,
}

// request is a client's first packet for the service.
func (s service) request() packet {
	p := packet{
		from: routerMAC, to: hostMAC, source: addr(client4), target: s.address, ttl: 64, id: 7,
		protocol: protocols[s.protocol], sport: 40000, dport: s.port, payload: []byte("question"),
	}
	if s.address.Is6() {
		p.source = addr(client6)
	}
	switch s.protocol {
	case "tcp":
		p.flags = "S"
	case "sctp":
		p.payload = sctpInit
	}
	return p
}

// icmp is a message of ICMP to the service's address.
func (s service) icmp(kind, code uint8, payload []byte) packet {
	p := s.request()
	p.protocol, p.kind, p.code, p.payload = layers.IPProtocolICMPv4, kind, code, payload
	if s.address.Is6() {
		p.protocol = layers.IPProtocolICMPv6
	}
	return p
}

// with is a packet with a change.
func (p packet) with(change func(*packet)) packet {
	change(&p)
	return p
}

// fromPort and fromClient are the packet of another flow, of the same client and of another.
func (p packet) fromPort(port uint16) packet {
	p.sport = port
	return p
}

func (p packet) fromClient(address string) packet {
	p.source = addr(address)
	return p
}

func (p packet) carrying(n int) packet {
	p.payload = slices.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	return p
}

// edited is the packet with its IP packet changed in the end.
func (p packet) edited(change func(ip []byte)) packet {
	p.edit = func(ip []byte) []byte {
		change(ip)
		return ip
	}
	return p
}

// cut is the packet with its IP packet cut to n bytes, whatever its header says.
func (p packet) cut(n int) packet {
	p.edit = func(ip []byte) []byte { return ip[:n] }
	return p
}

// sctpInit is an INIT chunk (RFC 9260, section 3.3.2), sctpCookie a COOKIE ECHO, sctpData a DATA chunk.
var (
	sctpInit   = []byte{1, 0, 0, 20, 0, 0, 0, 99, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1}
	sctpCookie = []byte{10, 0, 0, 8, 1, 2, 3, 4}
	sctpData   = []byte{0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 'd', 'a', 't', 'a'}
)
