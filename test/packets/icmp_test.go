package packets

import (
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// echoKind is the type of an echo request to the service, which its answer has too but for one bit or all.
func echoKind(s service) uint8 {
	if s.address.Is4() {
		return layers.ICMPv4TypeEchoRequest
	}
	return layers.ICMPv6TypeEchoRequest
}

// echo is an echo request with n bytes of data.
func (s service) echo(n int) packet {
	data := []byte{0x12, 0x34, 0, 1} // identifier and sequence number
	for i := range n {
		data = append(data, byte(i*7))
	}
	return s.icmp(echoKind(s), 0, data)
}

// echoes is echo requests and other ICMP that is no error.
func echoes() *group {
	services := []service{
		newService("web4", "l2", "tcp", vip4, 1), newService("web6", "l2", "tcp", vip6, 1),
		newService("empty4", "nat", "udp", "203.0.113.2", 0), newService("empty6", "nat", "udp", "2001:db8:53::2", 0),
	}
	g := newGroup("echo", services...)
	for _, s := range services {
		for _, n := range []int{0, 1, 2, 3, 56, 1400} {
			p := s.echo(n)
			g.answers(fmt.Sprintf("%s: echo of %d bytes", s.name, n), p, "answer_echo", p.echoed())
		}
	}
	for _, s := range services[:2] {
		g.strangeEchoes(s)
		g.noEchoes(s)
		g.echoFragments(s)
	}
	g.otherICMP4(services[0])
	g.otherICMP6(services[1])
	return g
}

// strangeEchoes adds requests that are answered all the same.
func (g *group) strangeEchoes(s service) {
	for _, c := range []struct {
		name   string
		change func(*packet)
	}{
		{"in a VLAN", func(p *packet) { p.tags = []tag{vlan7} }},
		{"in a VLAN in a provider's", func(p *packet) { p.tags = []tag{provider, vlan7} }},
		{"with a priority tag", func(p *packet) { p.tags = []tag{priority} }},
		{"of TTL 1", func(p *packet) { p.ttl = 1 }},
		{"of the highest TTL", func(p *packet) { p.ttl = 255 }},
		{"with DSCP and ECN", func(p *packet) { p.tos = 0xb9 }},
		{"that may be fragmented", func(p *packet) { p.mayFragment = true }},
		{"with padding", func(p *packet) { p.payload, p.padding = p.payload[:4], 18 }},
		{"with a wrong checksum", func(p *packet) { p.badChecksum = true }},
		{"from another client", func(p *packet) { p.source = newServer(200, s.address).address }},
	} {
		p := s.echo(40).with(c.change)
		g.answers(s.name+": echo "+c.name, p, "answer_echo", p.echoed())
	}
}

// noEchoes adds what is not answered.
func (g *group) noEchoes(s service) {
	for _, code := range []uint8{1, 255} {
		p := s.echo(40).with(func(p *packet) { p.code = code })
		g.passes(fmt.Sprintf("%s: echo with code %d", s.name, code), p.frame(), "pass_no_service")
	}
	g.passes(s.name+": echo to the backend", s.echo(40).with(func(p *packet) { p.target = s.servers[0].address }).frame(), "pass_no_service")
	g.passes(s.name+": echo with options or extension headers", s.echo(40).with(withOptions).frame(), "pass_no_service")
	reply := s.echo(40).with(func(p *packet) { p.kind = 0 })
	if s.address.Is6() {
		reply = s.echo(40).with(func(p *packet) { p.kind = layers.ICMPv6TypeEchoReply })
	}
	g.passes(s.name+": echo reply", reply.frame(), "pass_no_service")
	header := 20
	if s.address.Is6() {
		header = 40
	}
	for _, n := range []int{0, 3, 7} {
		short := s.echo(0).cut(header + n).frame()
		g.passes(fmt.Sprintf("%s: echo cut to %d bytes", s.name, n), short, "pass_malformed").Malformed = true
	}
}

// echoFragments adds fragments of echo requests, which are the host's.
func (g *group) echoFragments(s service) {
	for i, p := range s.echo(92).split(48, 52) {
		reasons := []string{"pass_fragment"}
		if i > 0 {
			reasons = append(reasons, "pass_no_service") // whether it is an echo cannot be seen
		}
		g.passes(number(s.name+": fragment of an echo,", i+1), p.frame(), reasons...)
	}
}

func (g *group) otherICMP4(s service) {
	for _, c := range []struct {
		name       string
		kind, code uint8
	}{
		{"timestamp", 13, 0}, {"address mask request", 17, 0}, {"router solicitation", 10, 0}, {"redirect", 5, 1},
		{"source quench", 4, 0}, {"type 255", 255, 0}, {"extended echo", 42, 0},
	} {
		data := append([]byte{0, 0, 0, 0}, s.request().quote(8)...)
		g.passes("ICMP "+c.name, s.icmp(c.kind, c.code, data).frame(), "pass_no_service")
	}
}

func (g *group) otherICMP6(s service) {
	target := s.address.AsSlice()
	network := s.request().with(func(p *packet) {
		p.ttl, p.protocol, p.target = 255, layers.IPProtocolICMPv6, addr("ff02::1:ff00:1")
	})
	source := layers.ICMPv6Option{Type: layers.ICMPv6OptSourceAddress, Data: net.HardwareAddr(routerMAC)}
	discovery := func(name string, to string, kind uint8, message gopacket.SerializableLayer) {
		network.target = addr(to)
		header := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
		ip := network.ipv6()
		must(header.SetNetworkLayerForChecksum(ip))
		frame := append(network.link(network.source), serialise(ip, header, message)...)
		g.passes("ICMPv6 "+name, frame, "pass_no_service")
	}
	solicitation := &layers.ICMPv6NeighborSolicitation{TargetAddress: target, Options: layers.ICMPv6Options{source}}
	discovery("neighbour solicitation for the service", "ff02::1:ff00:1", layers.ICMPv6TypeNeighborSolicitation, solicitation)
	discovery("neighbour solicitation to the service", s.address.String(), layers.ICMPv6TypeNeighborSolicitation, solicitation)
	discovery("neighbour advertisement", s.address.String(), layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: network.source.AsSlice()})
	discovery("router solicitation", "ff02::2", layers.ICMPv6TypeRouterSolicitation, &layers.ICMPv6RouterSolicitation{})
	discovery("router advertisement", "ff02::1", layers.ICMPv6TypeRouterAdvertisement,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800})
	for _, kind := range []uint8{0, 5, 127, 200} {
		p := s.icmp(kind, 0, append([]byte{0, 0, 0, 0}, s.request().quote(8)...))
		g.passes(number("ICMPv6 type", int(kind)), p.frame(), "pass_no_service")
	}
}
