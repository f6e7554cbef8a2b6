package packets

import (
	"fmt"

	"github.com/gopacket/gopacket/layers"
)

const (
	clientRouter4, clientRouter6 = "192.0.2.254", "2001:db8:1::fe"
	serverRouter4, serverRouter6 = "198.51.100.254", "2001:db8:2::fe"
)

// kindOfError is a message of ICMP that tells of an undelivered packet.
type kindOfError struct {
	name       string
	kind, code uint8
}

var (
	errorKinds4 = []kindOfError{
		{"network unreachable", 3, 0}, {"host unreachable", 3, 1}, {"port unreachable", 3, 3}, {"fragmentation needed", 3, 4},
		{"prohibited", 3, 13}, {"TTL exceeded", 11, 0}, {"reassembly time exceeded", 11, 1}, {"parameter problem", 12, 0},
	}
	errorKinds6 = []kindOfError{
		{"no route", 1, 0}, {"prohibited", 1, 1}, {"address unreachable", 1, 3}, {"port unreachable", 1, 4}, {"packet too big", 2, 0},
		{"hop limit exceeded", 3, 0}, {"reassembly time exceeded", 3, 1}, {"parameter problem", 4, 1},
	}
)

// toClientOf is what a backend of the service sends to a client, in the modes where it does so directly.
func (s service) toClientOf(request packet) packet {
	request.source, request.target, request.sport, request.dport = request.target, request.source, request.dport, request.sport
	return request
}

// errors4 is ICMP errors of l2, ipip and gue, which quote what a backend sent to its client.
func errors4() *group {
	return errorsOf("errors4", 4, clientRouter4, errorKinds4)
}

// errors6 is the same of IPv6.
func errors6() *group {
	return errorsOf("errors6", 6, clientRouter6, errorKinds6)
}

func errorsOf(name string, family int, router string, kinds []kindOfError) *group {
	var services []service
	for i, w := range append(tunnelWays[:4:4], plainWays[1]) {
		for _, protocol := range []string{"tcp", "udp"} {
			services = append(services, w.service(protocol, family, i+1, 1))
		}
	}
	l2, ipip, gue := services[8], services[0], services[5]
	sctp := plainWays[1].service("sctp", family, 5, 1)
	g := newGroup(name, append(services, sctp)...)
	for _, s := range services {
		sent := s.toClientOf(s.request().fromPort(45000))
		for _, kind := range kinds {
			e := sent.icmpError(s.address.String(), router, kind.kind, kind.code, 8)
			g.forwards(s.name+": "+kind.name, e, s)
		}
	}
	about := func(sent packet, n int) packet {
		return sent.icmpError(l2.address.String(), router, kinds[3].kind, kinds[3].code, n)
	}
	sent := l2.toClientOf(l2.request())
	g.forwards("about SCTP", sctp.toClientOf(sctp.request()).icmpError(sctp.address.String(), router, kinds[3].kind, kinds[3].code, 8), sctp)
	g.forwards("quotes 4 bytes", about(sent, 4), l2)
	g.forwards("quotes the whole packet", about(sent.carrying(500), 520), l2)
	g.forwards("quotes options or extension headers", about(sent.with(withOptions), 8), l2)
	g.forwards("in a VLAN", about(sent, 8).with(func(p *packet) { p.tags = []tag{vlan7} }), l2)
	g.forwards("in a VLAN in a provider's, to a tunnel", ipip.toClientOf(ipip.request()).icmpError(ipip.address.String(), router, kinds[3].kind, kinds[3].code, 8).
		with(func(p *packet) { p.tags = []tag{provider, vlan7} }), ipip)
	g.forwards("of TTL 1", about(sent, 8).with(func(p *packet) { p.ttl = 1 }), l2)
	g.forwards("with DSCP and ECN, to a tunnel", gue.toClientOf(gue.request()).icmpError(gue.address.String(), router, kinds[3].kind, kinds[3].code, 8).
		with(func(p *packet) { p.tos = 0xc1 }), gue)
	if family == 4 {
		g.forwards("about a first fragment", about(sent.with(func(p *packet) { p.payload = make([]byte, 100) }).split(48)[0], 8), l2)
	}
	g.largeErrors(services, router, kinds)
	g.foreignErrors(l2, ipip, gue, about)
	return g
}

// largeErrors adds errors that just fit the way to the backend, and that do not: of these nobody is told (RFC 1122,
// section 3.2.2; RFC 4443, section 2.4).
func (g *group) largeErrors(services []service, router string, kinds []kindOfError) {
	for i, s := range services {
		w := append(tunnelWays[:4:4], plainWays[1])[i/2]
		sent := s.toClientOf(s.request().fromPort(45000)).with(fill(1500))
		about := func(size int) packet {
			e := sent.icmpError(s.address.String(), router, kinds[0].kind, kinds[0].code, 8)
			e.payload = append(e.payload[:4:4], sent.ip()[:size-e.headerLength()-8]...)
			return e
		}
		g.forwards(s.name+": largest error that fits", about(largest(w)), s)
		g.drops(s.name+": error of one byte more", about(largest(w)+1), s, "drop_too_big")
	}
}

// foreignErrors adds errors that are not about what a service's backend sent.
func (g *group) foreignErrors(l2, ipip, gue service, about func(sent packet, n int) packet) {
	sent := l2.toClientOf(l2.request())
	passes := func(name string, e packet, reasons ...string) *testCase {
		return g.passes(name, e.frame(), reasons...)
	}
	passes("about another port", about(sent.fromPort(81), 8), "pass_no_service")
	passes("about another address", about(sent.fromClient(newServer(50, l2.address).address.String()), 8), "pass_no_service")
	passes("about what a client sent", about(l2.request(), 8), "pass_no_service")
	passes("about an echo", about(l2.echo(8), 8), "pass_no_service")
	passes("about ESP", about(sent.with(func(p *packet) { p.protocol, p.payload = 50, make([]byte, 16) }), 8), "pass_no_service")
	for _, s := range []service{ipip, gue} {
		outer := s.towards(s.servers[0], s.request())
		passes("about the outer packet of "+s.mode, quoting(outer), "pass_no_service")
	}
	cut := func(name string, n int, reasons ...string) {
		e := about(sent, 8)
		e.payload = e.payload[:4+n]
		passes(name, e, reasons...).Malformed = true
	}
	header := sent.headerLength()
	cut("quotes nothing", 0, "pass_no_service", "pass_malformed")
	cut("quotes less than an IP header", header-1, "pass_no_service", "pass_malformed")
	cut("quotes an IP header alone", header, "pass_malformed")
	cut("quotes half the ports", header+2, "pass_malformed")
	garbage := about(sent, 8)
	for i := range garbage.payload[4:] {
		garbage.payload[4+i] = byte(i*37 + 11)
	}
	passes("quotes garbage", garbage, "pass_no_service", "pass_malformed").Malformed = true
	later := sent.with(func(p *packet) { p.payload = make([]byte, 100) }).split(48, 48)[1]
	passes("about a later fragment", about(later, 8), "pass_fragment")
	for i, fragment := range about(sent, 28).with(func(p *packet) { p.payload = append(p.payload, make([]byte, 60)...) }).split(72, 48) {
		reasons := []string{"pass_fragment"}
		if i > 0 {
			reasons = append(reasons, "pass_no_service")
		}
		passes(number("fragment of an error,", i+1), fragment, reasons...)
	}
	if l2.address.Is4() {
		passes("with options of its own", about(sent, 8).with(withOptions), "pass_no_service")
	}
}

// quoting is an error about an outer packet: it comes to its source, which is this host.
func quoting(p packet) packet {
	outer := p.outer
	e := packet{from: p.to, to: hostMAC, target: outer.source, ttl: 64, id: 9, protocol: layers.IPProtocolICMPv4, kind: 3, code: 1}
	e.source = addr(serverRouter4)
	if outer.source.Is6() {
		e.source, e.protocol, e.kind, e.code = addr(serverRouter6), layers.IPProtocolICMPv6, 1, 3
	}
	e.payload = append(make([]byte, 4), outer.around(p, p.ip())[:48]...)
	return e
}

// errorsInNAT is errors of nat mode, in both directions: their quoted packets are translated too.
func errorsInNAT() *group {
	services := []service{
		newService("web4", "nat", "tcp", vip4, 1), newService("web6", "nat", "tcp", vip6, 1),
		newService("chat4", "nat", "udp", vip4, 1), newService("chat6", "nat", "udp", vip6, 1),
	}
	for i := range services {
		services[i].servers[0].port = 8080
	}
	g := newGroup("errors-nat", services...)
	for _, s := range services {
		kinds, clientRouter, serverRouter := errorKinds4, clientRouter4, serverRouter4
		if s.address.Is6() {
			kinds, clientRouter, serverRouter = errorKinds6, clientRouter6, serverRouter6
		}
		before := s.toClientOf(s.request().fromPort(44000)).icmpError(s.address.String(), clientRouter, kinds[0].kind, kinds[0].code, 8)
		g.passes(s.name+": error before its flow", before.frame(), "pass_no_flow")
		request := s.request().with(func(p *packet) { p.tags = []tag{vlan7} })
		opened := s.name + ": request"
		g.forwards(opened, request, s)
		for _, kind := range kinds {
			g.errorToBackend(s.name+": "+kind.name+" for the backend", opened, s, request, clientRouter, kind, nil)
			g.errorToClient(s.name+": "+kind.name+" for the client", opened, s, request, serverRouter, kind, nil)
		}
		marked := func(p *packet) { p.tos, p.ttl = 0xc1, 2 }
		g.errorToBackend(s.name+": DSCP and TTL 2 for the backend", opened, s, request, clientRouter, kinds[3], marked)
		g.errorToClient(s.name+": DSCP and TTL 2 for the client", opened, s, request, serverRouter, kinds[3], marked)
		expired := s.toClientOf(request).icmpError(s.address.String(), clientRouter, kinds[3].kind, kinds[3].code, 8)
		g.drops(s.name+": TTL 1 for the backend", expired.with(func(p *packet) { p.ttl = 1 }), s, "drop_ttl_expired")
		g.foreignErrorsInNAT(s, opened, request, serverRouter, kinds[3])
	}
	return g
}

// quoteOffset is where the quoted packet's transport header begins in an untagged frame.
func quoteOffset(e, quoted packet) int { return 14 + e.headerLength() + 8 + quoted.headerLength() }

// errorToBackend adds an error about what a backend sent. The backend knows its packet as one to this host.
func (g *group) errorToBackend(name, opened string, s service, request packet, router string, kind kindOfError, change func(*packet)) {
	b := s.servers[0]
	sent := s.toClientOf(request)
	in := sent.icmpError(s.address.String(), router, kind.kind, kind.code, 8)
	known := sent
	known.source, known.sport, known.target, known.dport = b.address, b.port, s.self(b), placeholder
	out := known.icmpError(b.address.String(), router, kind.kind, kind.code, 8)
	out.payload = append(out.payload[:len(out.payload)-4:len(out.payload)-4], in.payload[len(in.payload)-4:]...) // what follows the ports stays
	out.from, out.to = in.to, b.mac()
	if change != nil {
		change(&in)
		change(&out)
	}
	out.ttl--
	c := g.add(testCase{
		Name: name, frame: in.frame(), Action: "tx", Reason: []string{forwarded}, Service: s.name,
		Frames: map[string]string{b.name: hexOf(out)}, Like: opened,
	})
	checksum := 14 + out.headerLength() + 2
	c.Free = []field{{Kind: "nat-port", At: quoteOffset(out, known) + 2, Checksum: checksum}}
}

// errorToClient adds an error about what went to a backend. The client knows its packet as it sent it, and hears
// of it from the service (RFC 5508, section 4.2.2).
func (g *group) errorToClient(name, opened string, s service, request packet, router string, kind kindOfError, change func(*packet)) {
	b := s.servers[0]
	sent := s.towards(b, request)
	in := sent.icmpError(s.self(b).String(), router, kind.kind, kind.code, 8)
	in.from = b.mac()
	known := request
	known.ttl = sent.ttl
	out := known.icmpError(request.source.String(), s.address.String(), kind.kind, kind.code, 8)
	out.payload = append(out.payload[:len(out.payload)-4:len(out.payload)-4], in.payload[len(in.payload)-4:]...)
	out.from, out.to, out.tags = request.to, request.from, replyTags(request.tags)
	if change != nil {
		change(&in)
		change(&out)
	}
	out.ttl--
	c := g.add(testCase{
		Name: name, frame: in.frame(), Action: "tx", Reason: []string{toClient}, Service: s.name,
		Frames: map[string]string{b.name: hexOf(out)},
	})
	c.Learn = &learned{Case: opened, Fields: []field{{Kind: "nat-port", At: quoteOffset(in, sent), Checksum: 14 + in.headerLength() + 2}}}
}

// foreignErrorsInNAT adds errors about what never went to a backend.
func (g *group) foreignErrorsInNAT(s service, opened string, request packet, router string, kind kindOfError) {
	b := s.servers[0]
	sent := s.towards(b, request)
	at := []field{{Kind: "nat-port", At: quoteOffset(sent, sent)}}
	learn := func(c *testCase, in packet) {
		at[0].Checksum = 14 + in.headerLength() + 2
		c.Learn = &learned{Case: opened, Fields: []field{at[0]}}
	}
	other := sent.with(func(p *packet) { p.target = newServer(77, s.address).address }).icmpError(s.self(b).String(), router, kind.kind, kind.code, 8)
	learn(g.passes(s.name+": error about a packet to another host", other.frame(), "pass_no_service"), other)
	expired := sent.icmpError(s.self(b).String(), router, kind.kind, kind.code, 8).with(func(p *packet) { p.ttl = 1 })
	learn(g.drops(s.name+": TTL 1 for the client", expired, s, "drop_ttl_expired"), expired)
	unknown := sent.with(func(p *packet) { p.sport = 32768 }).icmpError(s.self(b).String(), router, kind.kind, kind.code, 8)
	g.passes(s.name+": error about a port of no flow", unknown.frame(), "pass_no_service")
	cut := sent.icmpError(s.self(b).String(), router, kind.kind, kind.code, 8)
	cut.payload = cut.payload[:len(cut.payload)-6]
	g.passes(s.name+": error that quotes half the ports", cut.frame(), "pass_malformed").Malformed = true
}

// hexOf is a packet's frame as it is stored.
func hexOf(p packet) string { return fmt.Sprintf("%x", p.frame()) }

// split cuts a packet into fragments that carry so many bytes each.
func (p packet) split(sizes ...int) []packet {
	var parts []packet
	offset, whole := 0, len(p.transport())
	for _, size := range sizes {
		size = min(size, whole-offset)
		part := part{offset, size, offset+size < whole}
		parts = append(parts, p.with(func(p *packet) { p.part = &part }))
		offset += size
	}
	return parts
}
