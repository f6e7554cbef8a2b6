package packets

import "github.com/gopacket/gopacket/layers"

// ipv4Oddities is what can be strange about an IPv4 header.
func ipv4Oddities() *group {
	var services []service
	for i, w := range allWays {
		services = append(services, w.service("tcp", 4, i+1, 1))
	}
	g := newGroup("ipv4", services...)
	for i, s := range services {
		name := allWays[i].String() + ": "
		g.forwards(name+"options", s.request().with(func(p *packet) { p.options = noOperations(4) }), s)
		g.forwards(name+"40 bytes of options", s.request().with(func(p *packet) { p.options = noOperations(40) }), s)
		g.forwards(name+"may be fragmented", s.request().with(func(p *packet) { p.mayFragment = true }), s)
		g.forwards(name+"padding", s.request().with(func(p *packet) { p.payload, p.padding = nil, 6 }), s)
		g.forwards(name+"highest TTL", s.request().with(func(p *packet) { p.ttl = 255 }), s)
		if s.mode != "nat" {
			g.forwards(name+"TTL 0", s.request().with(func(p *packet) { p.ttl = 0 }), s)
			g.forwards(name+"TTL 1", s.request().with(func(p *packet) { p.ttl = 1 }), s)
		}
	}
	l2 := services[1]
	g.forwards("reserved flag", l2.request().edited(func(ip []byte) { put(ip, 6, 10, 0x8000|0x4000) }), l2)
	g.forwards("record route", l2.request().with(func(p *packet) {
		p.options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}, {OptionType: 0}}
	}), l2)
	wrong := l2.request().edited(func(ip []byte) { ip[10] ^= 0xff })
	g.forwards("wrong checksum of the header", wrong, l2).BadChecksum = true
	g.malformed4(l2)
	g.malformed4(services[0])
	g.malformed4(services[2])
	g.addresses4(l2)
	g.protocols4(l2)
	return g
}

// malformed4 adds packets that no host would take: the balancer leaves them to this one.
func (g *group) malformed4(s service) {
	p := s.request()
	whole := len(p.ip())
	length := func(n int) packet { return p.edited(func(ip []byte) { put(ip, 2, 10, uint16(n)) }) }
	first := func(b byte) packet {
		return p.edited(func(ip []byte) { put(ip, 0, 10, uint16(b)<<8) })
	}
	for _, c := range []struct {
		name string
		in   packet
	}{
		{"header of 0 bytes", first(0x40)},
		{"header of 16 bytes", first(0x44)},
		{"header longer than the packet", first(0x4f).with(func(p *packet) { p.payload = nil })},
		{"version 6", first(0x65)},
		{"version 5", first(0x55)},
		{"version 0", first(0x05)},
		{"total length 0", length(0)},
		{"total length below that of the header", length(19)},
		{"total length of the header alone", length(20)},
		{"total length that ends in the ports", length(23)},
		{"total length that ends in the transport header", length(39)},
		{"total length one beyond the frame", length(whole + 1)},
		{"total length 65535", length(65535)},
		{"cut in the header", p.cut(19)},
		{"cut behind the header", p.cut(20)},
		{"cut in the ports", p.cut(23)},
		{"cut in the transport header", p.cut(39)},
		{"cut in the payload", p.cut(whole - 1)},
		{"short packet, cut in the transport header", p.with(func(p *packet) {
			p.edit = func(ip []byte) []byte {
				put(ip, 2, 10, 39)
				return ip[:39]
			}
		})},
		{"header with options, cut in them", p.with(func(p *packet) {
			p.options = noOperations(8)
			p.edit = func(ip []byte) []byte { return ip[:24] }
		})},
	} {
		g.passes(s.mode+": "+c.name, c.in.frame(), "pass_malformed").Malformed = true
	}
}

// addresses4 adds addresses that are not those of one host.
func (g *group) addresses4(s service) {
	for _, c := range []struct{ name, source string }{
		{"source 0.0.0.0", "0.0.0.0"}, {"source of the loopback", "127.0.0.1"}, {"source 255.255.255.255", "255.255.255.255"},
		{"source is the service", s.address.String()},
	} {
		g.forwards(c.name, s.request().fromClient(c.source), s)
	}
	for _, c := range []struct{ name, target string }{
		{"multicast", "224.0.0.1"}, {"broadcast", "255.255.255.255"}, {"neighbour of the service", "203.0.113.200"},
		{"this network", "0.0.0.0"},
	} {
		to := s.request().with(func(p *packet) { p.target = addr(c.target) })
		g.passes("to "+c.name, to.frame(), "pass_no_service")
	}
}

// protocols4 adds protocols that no service has.
func (g *group) protocols4(s service) {
	for _, other := range otherProtocols {
		p := s.request().with(func(p *packet) { p.protocol, p.payload = other.number, s.request().transport() })
		g.passes("protocol "+other.name, p.frame(), "pass_no_service").Malformed = true
	}
	p := s.request().with(func(p *packet) {
		p.protocol, p.payload = layers.IPProtocolIPv4, s.request().ip()
	})
	g.passes("IP in IP for the service", p.frame(), "pass_no_service")
	bare := s.request().with(func(p *packet) { p.protocol, p.payload = 253, nil })
	g.passes("header alone, of protocol 253", bare.frame(), "pass_no_service").Malformed = true
}

// otherProtocols have no services. Those of extension headers are not among them.
var otherProtocols = []struct {
	name   string
	number layers.IPProtocol
}{
	{"IGMP", 2}, {"EGP", 8}, {"IPv6", 41}, {"GRE", 47}, {"ESP", 50}, {"OSPF", 89}, {"PIM", 103}, {"VRRP", 112}, {"L2TP", 115},
	{"UDP-Lite", 136}, {"reserved", 255},
}
