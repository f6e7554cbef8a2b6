package packets

import (
	"encoding/binary"
	"slices"

	"github.com/gopacket/gopacket/layers"
)

// ipv6Oddities is what can be strange about an IPv6 header.
func ipv6Oddities() *group {
	var services []service
	for i, w := range allWays {
		services = append(services, w.service("tcp", 6, i+1, 1))
	}
	g := newGroup("ipv6", services...)
	for i, s := range services {
		name := allWays[i].String() + ": "
		g.forwards(name+"padding", s.request().with(func(p *packet) { p.payload, p.padding = nil, 2 }), s)
		g.forwards(name+"highest hop limit", s.request().with(func(p *packet) { p.ttl = 255 }), s)
		if s.mode != "nat" {
			g.forwards(name+"hop limit 0", s.request().with(func(p *packet) { p.ttl = 0 }), s)
			g.forwards(name+"hop limit 1", s.request().with(func(p *packet) { p.ttl = 1 }), s)
		}
	}
	l2 := services[1]
	g.malformed6(l2)
	g.malformed6(services[0])
	g.malformed6(services[2])
	for _, c := range []struct{ name, source string }{
		{"source ::", "::"}, {"source ::1", "::1"}, {"source of the link", "fe80::1"}, {"source ff02::1", "ff02::1"},
		{"source is the service", l2.address.String()},
	} {
		g.forwards(c.name, l2.request().fromClient(c.source), l2)
	}
	for _, c := range []struct{ name, target string }{
		{"all nodes", "ff02::1"}, {"an address of the link", "fe80::2"}, {"neighbour of the service", "2001:db8:53::ff"}, {"::", "::"},
	} {
		to := l2.request().with(func(p *packet) { p.target = addr(c.target) })
		g.passes("to "+c.name, to.frame(), "pass_no_service")
	}
	for _, other := range otherProtocols {
		p := l2.request().with(func(p *packet) { p.protocol, p.payload = other.number, l2.request().transport() })
		g.passes("next header "+other.name, p.frame(), "pass_no_service").Malformed = true
	}
	bare := l2.request().with(func(p *packet) { p.protocol, p.payload = layers.IPProtocolNoNextHeader, nil })
	g.passes("no next header", bare.frame(), "pass_no_service").Malformed = true
	return g
}

// malformed6 is malformed4 of IPv6.
func (g *group) malformed6(s service) {
	p := s.request()
	content := len(p.ip()) - 40
	length := func(n int) packet {
		return p.edited(func(ip []byte) { binary.BigEndian.PutUint16(ip[4:], uint16(n)) })
	}
	version := func(v byte) packet { return p.edited(func(ip []byte) { ip[0] = v << 4 }) }
	for _, c := range []struct {
		name string
		in   packet
	}{
		{"version 4", version(4)},
		{"version 0", version(0)},
		{"version 15", version(15)},
		{"payload length 0", length(0)},
		{"payload length that ends in the ports", length(3)},
		{"payload length that ends in the transport header", length(19)},
		{"payload length one beyond the frame", length(content + 1)},
		{"payload length 65535", length(65535)},
		{"cut in the header", p.cut(39)},
		{"cut behind the header", p.cut(40)},
		{"cut in the ports", p.cut(43)},
		{"cut in the payload", p.cut(40 + content - 1)},
	} {
		g.passes(s.mode+": "+c.name, c.in.frame(), "pass_malformed").Malformed = true
	}
}

// destinationOptions is a header of destination options with n words of 8 bytes, padding all of it.
func destinationOptions(n int) extension {
	return extension{layers.IPProtocolIPv6Destination, padded(n)}
}

func hopByHop(n int) extension { return extension{layers.IPProtocolIPv6HopByHop, padded(n)} }

// padded is a header of options: each PadN fills at most 255 bytes (RFC 8200, section 4.2).
func padded(n int) []byte {
	header := []byte{0, byte(n - 1)}
	for left := 8*n - 2; left > 0; {
		option := min(left, 200)
		if left-option == 1 {
			option--
		}
		header = append(header, 1, byte(option-2))
		header = append(header, make([]byte, option-2)...)
		left -= option
	}
	return header
}

// routing is a routing header with room for one segment.
func routing(kind, left byte) extension {
	header := append([]byte{0, 2, kind, left, 0, 0, 0, 0}, addr("2001:db8:99::1").AsSlice()...)
	return extension{layers.IPProtocolIPv6Routing, header}
}

// authentication is a header of 24 bytes (RFC 4302): its length counts in words of 4 bytes.
var authentication = extension{layers.IPProtocolAH, []byte{0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}

// extensionHeaders is chains of IPv6.
func extensionHeaders() *group {
	services := []service{
		plainWays[0].service("tcp", 6, 1, 1), plainWays[1].service("tcp", 6, 2, 1), tunnelWays[1].service("udp", 6, 3, 1),
		tunnelWays[2].service("udp", 6, 4, 1),
	}
	g := newGroup("extensions", services...)
	atomic := extension{layers.IPProtocolIPv6Fragment, []byte{0, 0, 0, 0, 0, 0, 0, 9}}
	for _, s := range services {
		chained := func(chain ...extension) packet {
			return s.request().with(func(p *packet) { p.chain = chain })
		}
		g.forwards(s.mode+": hop-by-hop options", chained(hopByHop(1)), s)
		g.forwards(s.mode+": long hop-by-hop options", chained(hopByHop(20)), s)
		g.forwards(s.mode+": destination options", chained(destinationOptions(2)), s)
		g.forwards(s.mode+": routing header without segments left", chained(routing(0, 0)), s)
		g.forwards(s.mode+": segment routing header without segments left", chained(routing(4, 0)), s)
		g.forwards(s.mode+": authentication", chained(authentication), s)
		g.forwards(s.mode+": every kind", chained(hopByHop(1), destinationOptions(1), routing(0, 0), authentication), s)
		g.forwards(s.mode+": atomic fragment", chained(atomic), s)
		g.forwards(s.mode+": atomic fragment behind hop-by-hop options", chained(hopByHop(1), atomic), s)
		g.forwards(s.mode+": eight headers", chained(slices.Repeat([]extension{destinationOptions(1)}, 8)...), s)
		g.passes(s.mode+": nine headers", chained(slices.Repeat([]extension{destinationOptions(1)}, 9)...).frame(), "pass_extension_headers")
		// Their checksums are for the service's address, not for that of the last segment.
		g.passes(s.mode+": segments left", chained(routing(0, 1)).frame(), "pass_extension_headers").BadChecksum = true
		g.passes(s.mode+": segments left behind options", chained(destinationOptions(1), routing(4, 1)).frame(), "pass_extension_headers").BadChecksum = true
		g.passes(s.mode+": transport header behind 1 KiB of options", chained(destinationOptions(128)).frame(), "pass_extension_headers")
		g.cutChains(s)
	}
	return g
}

// cutChains adds chains that are cut, lead nowhere or are unknown.
func (g *group) cutChains(s service) {
	chained := s.request().with(func(p *packet) { p.chain = []extension{destinationOptions(2)} })
	shorter := func(n int) []byte {
		return chained.with(func(p *packet) {
			p.edit = func(ip []byte) []byte {
				binary.BigEndian.PutUint16(ip[4:], uint16(n-40))
				return ip[:n]
			}
		}).frame()
	}
	g.passes(s.mode+": cut before the first header", shorter(40), "pass_malformed").Malformed = true
	g.passes(s.mode+": cut in the first header", shorter(44), "pass_malformed").Malformed = true
	g.passes(s.mode+": cut behind the chain", shorter(56), "pass_malformed").Malformed = true
	beyond := chained.edited(func(ip []byte) { ip[41] = 20 })
	g.passes(s.mode+": header that reaches beyond the packet", beyond.frame(), "pass_malformed").Malformed = true
	for _, c := range []struct {
		name   string
		number layers.IPProtocol
	}{{"mobility header", 135}, {"host identity header", 139}, {"shim6 header", 140}, {"experimental header", 253}} {
		p := s.request().with(func(p *packet) { p.chain = []extension{hopByHop(1), {c.number, make([]byte, 8)}} })
		g.passes(s.mode+": "+c.name, p.frame(), "pass_no_service").Malformed = true
	}
}
