package packets

import "github.com/gopacket/gopacket/layers"

var (
	vlan7    = tag{kind: layers.EthernetTypeDot1Q, vlan: 7}
	vlan8    = tag{kind: layers.EthernetTypeDot1Q, vlan: 8}
	provider = tag{kind: layers.EthernetTypeQinQ, vlan: 100}
	priority = tag{kind: layers.EthernetTypeDot1Q, priority: 5} // a priority tag has no VLAN
)

// translation is nat mode: requests, and what backends answer.
func translation() *group {
	services := []service{
		newService("web4", "nat", "tcp", vip4, 1), newService("web6", "nat", "tcp", vip6, 1),
		newService("chat4", "nat", "udp", vip4, 1), newService("chat6", "nat", "udp", vip6, 1),
	}
	for i := range services {
		services[i].servers[0].port = 8080
	}
	g := newGroup("nat", services...)
	for _, s := range services {
		g.exchanges(s)
		g.lifetimes(s)
		g.strayReplies(s)
	}
	return g
}

// exchanges adds requests of every form, with replies.
func (g *group) exchanges(s service) {
	port := uint16(40000)
	exchange := func(name string, change, changeReply func(*packet)) {
		port++
		request := s.request().fromPort(port).with(change)
		reply, answer := s.reply(s.servers[0], request).with(changeReply), s.answer(s.servers[0], request).with(changeReply)
		name = title(s.name+":", name)
		g.forwards(name, request, s)
		g.replies(name+", reply", name, s, s.servers[0], reply, answer)
	}
	same := func(*packet) {}
	exchange("plain", same, same)
	exchange("VLAN", func(p *packet) { p.tags = []tag{vlan7} }, same)
	exchange("VLAN with priority", func(p *packet) { p.tags = []tag{{vlan7.kind, 3, 7}} }, same)
	exchange("provider's VLAN", func(p *packet) { p.tags = []tag{provider} }, same)
	exchange("VLAN in provider's VLAN", func(p *packet) { p.tags = []tag{provider, vlan7} }, same)
	exchange("VLAN in VLAN", func(p *packet) { p.tags = []tag{vlan8, vlan7} }, same)
	exchange("priority tag", func(p *packet) { p.tags = []tag{priority} }, same)
	exchange("VLAN behind priority tag", func(p *packet) { p.tags = []tag{priority, vlan7} }, same)
	exchange("empty", func(p *packet) { p.payload = nil }, func(p *packet) { p.payload = nil })
	exchange("odd length", func(p *packet) { p.payload = []byte("odd") }, func(p *packet) { p.payload = []byte("strange") })
	exchange("padding", func(p *packet) { p.payload, p.padding = nil, 6 }, func(p *packet) { p.padding = 3 })
	exchange("DSCP and ECN", func(p *packet) { p.tos = 0xb9 }, func(p *packet) { p.tos = 0x2b })
	exchange("may be fragmented", func(p *packet) { p.mayFragment = true }, func(p *packet) { p.mayFragment = true })
	exchange("options or extension headers", withOptions, withOptions)
	exchange("wrong checksum", func(p *packet) { p.badChecksum = true }, func(p *packet) { p.badChecksum = true })
	exchange("1500 bytes", fill(1500), fill(1500))
	balanced := s.answer(s.servers[0], s.request().fromPort(port+1)).balanced()
	exchange("checksum of 0", same, func(p *packet) { p.payload = balanced })
	if s.protocol == "udp" {
		exchange("no checksum", func(p *packet) { p.noChecksum = true }, func(p *packet) { p.noChecksum = true })
		return
	}
	exchange("answered by RST", same, func(p *packet) { p.flags = "R" })
	exchange("answered by FIN", same, func(p *packet) { p.flags = "FA" })
	exchange("begins in the middle", func(p *packet) { p.flags = "A" }, same)
}

// balanced is a payload of two bytes with which the transport's checksum is computed as 0.
func (p packet) balanced() []byte {
	p.payload = []byte{0, 0}
	at := 16
	if p.protocol == layers.IPProtocolUDP {
		at = 6
	}
	return p.transport()[at:][:2]
}

// withOptions adds options of IPv4 or extension headers of IPv6.
func withOptions(p *packet) {
	if p.source.Is4() {
		p.options = noOperations(8)
	} else {
		p.chain = []extension{destinationOptions(1), authentication}
	}
}

// noOperations are n bytes of IPv4 options.
func noOperations(n int) []layers.IPv4Option {
	options := make([]layers.IPv4Option, n)
	for i := range options {
		options[i].OptionType = 1
	}
	return options
}

// fill makes the IP packet n bytes long.
func fill(n int) func(*packet) {
	return func(p *packet) {
		p.payload = nil
		*p = p.carrying(n - len(p.ip()))
	}
}

// lifetimes adds requests and replies whose TTL ends.
func (g *group) lifetimes(s service) {
	lasting := func(ttl uint8) func(*packet) { return func(p *packet) { p.ttl = ttl } }
	request := s.request().fromPort(41000)
	g.drops(s.name+": TTL 0", request.with(lasting(0)), s, "drop_ttl_expired")
	g.drops(s.name+": TTL 1", request.with(lasting(1)), s, "drop_ttl_expired")
	name := s.name + ": TTL 2"
	g.forwards(name, request.with(lasting(2)), s)
	reply, answer := s.reply(s.servers[0], request), s.answer(s.servers[0], request)
	g.replies(name+", reply of TTL 2", name, s, s.servers[0], reply.with(lasting(2)), answer.with(lasting(1)))
	expired := g.drops(name+", reply of TTL 1", reply.with(lasting(1)), s, "drop_ttl_expired")
	expired.Learn = &learned{Case: name, Fields: []field{reply.portField(2)}}
}

// strayReplies adds packets that look like replies and are none.
func (g *group) strayReplies(s service) {
	request := s.request().fromPort(42000)
	name := s.name + ": request before strays"
	g.forwards(name, request, s)
	reply := s.reply(s.servers[0], request)
	stray := func(what string, p packet) {
		c := g.passes(s.name+": "+what, p.frame(), "pass_no_service")
		c.Learn = &learned{Case: name, Fields: []field{p.portField(2)}}
	}
	stray("reply from another host", reply.with(func(p *packet) { p.source = newServer(99, s.address).address }))
	stray("reply from another port", reply.with(func(p *packet) { p.sport++ }))
	stray("reply to another address", reply.with(func(p *packet) { p.target = s.request().source }))
	g.passes(s.name+": reply to a port of no flow", reply.with(func(p *packet) { p.dport = 32768 }).frame(), "pass_no_service")
}
