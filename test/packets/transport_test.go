package packets

import "encoding/binary"

// transportOddities is what can be strange about the headers of TCP and UDP.
func transportOddities() *group {
	var services []service
	for _, family := range []int{4, 6} {
		services = append(services,
			plainWays[0].service("tcp", family, 1, 1), plainWays[0].service("udp", family, 1, 1),
			plainWays[1].service("tcp", family, 2, 1), plainWays[1].service("udp", family, 2, 1))
	}
	g := newGroup("transport", services...)
	for _, s := range services {
		name := title(s.mode, s.protocol, family(s)) + ": "
		if s.protocol == "tcp" {
			g.tcpOddities(name, s)
		} else {
			g.udpOddities(name, s)
		}
		g.passes(name+"port next to the service's", s.request().with(func(p *packet) { p.dport++ }).frame(), "pass_no_service")
		g.passes(name+"destination port 0", s.request().with(func(p *packet) { p.dport = 0 }).frame(), "pass_no_service")
		g.passes(name+"destination port 65535", s.request().with(func(p *packet) { p.dport = 65535 }).frame(), "pass_no_service")
		g.forwards(name+"source port 0", s.request().fromPort(0), s)
		g.forwards(name+"source port 65535", s.request().fromPort(65535), s)
		g.forwards(name+"source port is the service's", s.request().fromPort(80), s)
		g.forwards(name+"wrong checksum", s.request().fromPort(50001).with(func(p *packet) { p.badChecksum = true }), s)
	}
	sctp := services[0].request().with(func(p *packet) { p.protocol, p.payload = protocols["sctp"], sctpInit })
	g.passes("SCTP to a service of TCP and UDP", sctp.frame(), "pass_no_service")
	return g
}

func (g *group) tcpOddities(name string, s service) {
	for i, c := range []struct{ name, flags string }{
		{"SYN and FIN", "SF"}, {"no flags", ""}, {"RST", "R"}, {"RST and ACK", "RA"}, {"every flag", "FSRPAUEC"}, {"FIN alone", "F"},
		{"SYN and RST", "SR"}, {"SYN with ECN", "SEC"}, {"urgent", "UA"}, {"SYN and ACK", "SA"},
	} {
		g.forwards(name+c.name, s.request().fromPort(uint16(51000+i)).with(func(p *packet) { p.flags = c.flags }), s)
	}
	g.forwards(name+"SYN with data", s.request().fromPort(52000).with(func(p *packet) { p.flags = "S" }).carrying(500), s)
	g.forwards(name+"40 bytes of options", s.request().fromPort(52001).with(func(p *packet) {
		p.tcpOptions = make([]byte, 40)
		for i := range p.tcpOptions {
			p.tcpOptions[i] = 1
		}
	}), s)
	g.forwards(name+"after RST again SYN", s.request().fromPort(51002), s)
}

func (g *group) udpOddities(name string, s service) {
	g.forwards(name+"empty datagram", s.request().fromPort(51000).carrying(0), s)
	g.forwards(name+"one byte", s.request().fromPort(51001).carrying(1), s)
	g.forwards(name+"no checksum", s.request().fromPort(51002).with(func(p *packet) { p.noChecksum = true }), s).BadChecksum = true
	length := func(at int, n uint16) packet {
		header := 20
		if s.address.Is6() {
			header = 40
		}
		return s.request().fromPort(51003 + uint16(at)).with(func(p *packet) { p.noChecksum = true }).edited(func(ip []byte) {
			binary.BigEndian.PutUint16(ip[header+4:], n)
		})
	}
	for i, n := range []uint16{1, 15, 17, 65535} {
		g.forwards(name+number("length in the header is", int(n)), length(i, n), s).Malformed = true
	}
}

// trafficClasses is DSCP and ECN, which outer headers take over.
func trafficClasses() *group {
	g, services := overWays("tos", "udp", allWays)
	for i, s := range services {
		for _, c := range []struct {
			name string
			tos  uint8
		}{
			{"no ECN", 0}, {"ECT(1)", 1}, {"ECT(0)", 2}, {"congestion experienced", 3}, {"expedited forwarding", 46 << 2},
			{"CS6 with ECT(0)", 48<<2 | 2}, {"every bit", 255},
		} {
			name := title(allWays[i%len(allWays)].String(), family(s)) + ": " + c.name
			g.forwards(name, s.request().with(func(p *packet) { p.tos = c.tos }), s)
		}
	}
	return g
}

// overWays is a group with a service of one backend for each way, of IPv4 and then of IPv6.
func overWays(name, protocol string, ways []way) (*group, []service) {
	var services []service
	for _, family := range []int{4, 6} {
		for i, w := range ways {
			services = append(services, w.service(protocol, family, i+1, 1))
		}
	}
	return newGroup(name, services...), services
}

// sizes is packets as big as fits the way to the backend, and bigger.
func sizes() *group {
	g, services := overWays("sizes", "udp", allWays)
	tcp := tunnelWays[0].service("tcp", 4, 9, 1)
	g.Config += tcp.yaml()
	for i, s := range services {
		w := allWays[i%len(allWays)]
		g.sizesOf(title(w.String(), family(s))+": ", s, largest(w))
	}
	g.forwards("SYN of 1480 bytes", tcp.request().with(fill(1480)), tcp)
	big := tcp.request().with(fill(1481))
	g.answers("SYN of 1481 bytes", big, "answer_too_big", big.tooBig(1480))
	g.bigFromNobody(services)
	return g
}

// bigFromNobody adds packets that do not fit, whose source is not one host: no error goes there (RFC 1122, section
// 3.2.2; RFC 4443, section 2.4).
func (g *group) bigFromNobody(services []service) {
	for i, s := range services {
		sources := []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"}
		if s.address.Is6() {
			sources = []string{"::", "ff02::1"}
		}
		for _, source := range sources {
			big := s.request().fromClient(source).with(fill(largest(allWays[i%len(allWays)]) + 1))
			g.drops(title(s.name+": one byte more from", source), big, s, "drop_too_big")
		}
	}
}

// largest is what fits an MTU of 1500 bytes with the outer headers.
func largest(w way) int {
	outer := map[way]int{{"ipip", 4}: 20, {"ipip", 6}: 40, {"gue", 4}: 20 + 8 + 4, {"gue", 6}: 40 + 8 + 4}
	return 1500 - outer[w]
}

func (g *group) sizesOf(name string, s service, largest int) {
	p := s.request()
	g.forwards(name+number("largest that fits,", largest), p.with(fill(largest)), s)
	big := p.with(fill(largest + 1))
	g.answers(name+"one byte more", big, "answer_too_big", big.tooBig(largest))
	if largest < 1480 {
		big = p.with(fill(1480))
		g.answers(name+"1480 bytes", big, "answer_too_big", big.tooBig(largest))
	}
	if largest < 1500 {
		big = p.with(fill(1500))
		g.answers(name+"1500 bytes", big, "answer_too_big", big.tooBig(largest))
	}
	tagged := p.with(fill(largest + 1)).with(func(p *packet) { p.tags = []tag{provider, vlan7} })
	g.answers(name+"one byte more, in two VLANs", tagged, "answer_too_big", tagged.tooBig(largest))
	marked := p.with(fill(largest + 1)).with(func(p *packet) { p.tos, p.ttl = 0xb9, 1 })
	g.answers(name+"one byte more, with DSCP and TTL 1", marked, "answer_too_big", marked.tooBig(largest))
	padded := p.with(fill(largest)).with(func(p *packet) { p.padding = 8 })
	g.forwards(name+"largest that fits, with padding", padded, s)
	if s.address.Is4() {
		breakable := func(p *packet) { p.mayFragment = true }
		g.forwards(name+"largest that fits, may be fragmented", p.with(breakable).with(fill(largest)), s)
		g.drops(name+"one byte more, may be fragmented", p.with(breakable).with(fill(largest+1)), s, "drop_too_big")
		g.drops(name+"1501 bytes, may be fragmented", p.with(breakable).with(fill(1501)), s, "drop_too_big")
	}
}
