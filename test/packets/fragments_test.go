package packets

import (
	"fmt"

	"github.com/gopacket/gopacket/layers"
)

// fragments4 is fragments of IPv4: later ones follow the first.
func fragments4() *group { return fragmentsOf("fragments4", 4) }

// fragments6 is the same of IPv6.
func fragments6() *group { return fragmentsOf("fragments6", 6) }

func fragmentsOf(name string, family int) *group {
	var services []service
	for i, w := range allWays {
		services = append(services, w.service("udp", family, i+1, 1))
	}
	l2, nat := services[1], services[0]
	many := plainWays[1].service("udp", family, 7, 3)
	manyNAT := plainWays[0].service("udp", family, 8, 3)
	tcp := plainWays[1].service("tcp", family, 9, 1)
	g := newGroup(name, append(services, many, manyNAT, tcp)...)
	for i, s := range services {
		title := allWays[i].String() + ": "
		g.threeFragments(title, s)
		g.lostFragments(title, s)
	}
	g.strangeFragments(l2, nat, tcp)
	g.manyFragments("many l2: ", many)
	g.manyFragments("many nat: ", manyNAT)
	g.fragmentsToNobody(l2)
	return g
}

// datagram is a packet of 200 bytes that may be fragmented, with an identification.
func (s service) datagram(id uint32) packet {
	return s.request().carrying(200).with(func(p *packet) { p.id, p.mayFragment = id, true })
}

// threeFragments adds a datagram in order, in VLANs, and with all that headers can have.
func (g *group) threeFragments(title string, s service) {
	for i, c := range []struct {
		name   string
		change func(*packet)
	}{
		{"", func(*packet) {}},
		{"in a VLAN,", func(p *packet) { p.tags = []tag{vlan7} }},
		{"with options or extension headers,", withOptions},
		{"with DSCP and ECN,", func(p *packet) { p.tos = 0xb9 }},
		{"without checksum,", func(p *packet) { p.noChecksum = true }},
	} {
		whole := s.datagram(uint32(0x10001 * (i + 1))).fromPort(uint16(43000 + i)).with(c.change)
		for n, p := range whole.split(80, 80, 48) {
			g.forwards(title+c.name+number("fragment", n+1), p, s)
		}
	}
	small := s.datagram(0x500).fromPort(43900).carrying(17)
	for n, p := range small.split(8, 16, 1) {
		g.forwards(title+number("small fragment", n+1), p.with(func(p *packet) { p.padding = 4 }), s)
	}
}

// lostFragments adds later fragments whose first one did not come, or came late.
func (g *group) lostFragments(title string, s service) {
	parts := s.datagram(0x600).fromPort(44000).split(80, 80, 48)
	g.drops(title+"later fragment before the first", parts[1], s, "drop_fragment_unknown")
	g.drops(title+"last fragment before the first", parts[2], s, "drop_fragment_unknown")
	g.forwards(title+"first fragment after the later", parts[0], s)
	g.forwards(title+"later fragment again", parts[1], s)
	other := parts[1].with(func(p *packet) { p.id++ })
	g.drops(title+"later fragment of another datagram", other, s, "drop_fragment_unknown")
	stranger := parts[1].with(func(p *packet) { p.source = newServer(201, s.request().source).address })
	g.drops(title+"later fragment of another client", stranger, s, "drop_fragment_unknown")
}

func (g *group) strangeFragments(l2, nat, tcp service) {
	expired := nat.datagram(0x700).split(80, 128)
	g.forwards("nat: first fragment", expired[0], nat)
	g.drops("nat: later fragment of TTL 1", expired[1].with(func(p *packet) { p.ttl = 1 }), nat, "drop_ttl_expired")
	g.forwards("nat: later fragment of TTL 2", expired[1].with(func(p *packet) { p.ttl = 2 }), nat)
	g.forwards("nat: datagram", nat.request().fromPort(47000), nat)
	g.forwards("nat: fragment of the same flow", nat.datagram(0x701).fromPort(47000).split(80)[0], nat).Like = "nat: datagram"
	segment := tcp.datagram(0x702).with(func(p *packet) { p.flags = "PA" })
	for n, p := range segment.split(80, 140) {
		g.forwards(number("tcp: fragment", n+1), p, tcp)
	}
	tiny := tcp.datagram(0x703).split(8)[0]
	g.passes("tcp: first fragment of 8 bytes", tiny.frame(), "pass_malformed", "pass_fragment")
	g.forwards("l2: fragment in which ports of no service appear", l2.datagram(0x704).split(80)[0], l2)
	g.bigFragments(l2)
	lookalike := l2.datagram(0x704).with(func(p *packet) { p.payload = make([]byte, 200) }).split(80, 128)[1]
	g.forwards("l2: later fragment of zeros", lookalike, l2)
}

// bigFragments adds fragments that do not fit: errors tell of the first alone (RFC 1122, section 3.2.2), of IPv6 of
// each.
func (g *group) bigFragments(s service) {
	parts := s.datagram(0x705).carrying(4000).split(800, 1600)
	g.forwards("l2: fragment before a large one", parts[0], s)
	big := parts[1]
	if s.address.Is6() {
		g.answers("l2: large later fragment", big, "answer_too_big", big.tooBig(1500))
		return
	}
	g.drops("l2: large later fragment", big, s, "drop_too_big")
	g.drops("l2: large later fragment that says not to", big.edited(func(ip []byte) { put(ip, 6, 10, 0x4000|uint16(ip[6])<<8|uint16(ip[7])) }), s, "drop_too_big")
}

// manyFragments adds datagrams of several clients to several backends: all of a datagram goes to one.
func (g *group) manyFragments(title string, s service) {
	const clients = 6
	for i := range clients {
		parts := s.datagram(uint32(0x800+i)).fromPort(uint16(48000+i)).split(80, 80, 48)
		first := number(title+"first fragment", i+1)
		g.forwards(first, parts[0], s)
		g.forwards(number(title+"second fragment", i+1), parts[1], s).Like = first
		g.forwards(number(title+"last fragment", i+1), parts[2], s).Like = first
	}
	g.Spread = append(g.Spread, spread{names(title+"first fragment", clients), 2})
}

// fragmentsToNobody adds fragments that are the host's.
func (g *group) fragmentsToNobody(s service) {
	other := s.datagram(0x900).with(func(p *packet) { p.target = newServer(99, s.address).address })
	for n, p := range other.split(80, 80, 48) {
		g.passes(number("to no service: fragment", n+1), p.frame(), "pass_no_service", "pass_fragment")
	}
	port := s.datagram(0x901).with(func(p *packet) { p.dport = 81 }).split(80)[0]
	g.passes("first fragment to a port of no service", port.frame(), "pass_no_service", "pass_fragment")
	esp := s.datagram(0x903).with(func(p *packet) { p.protocol = layers.IPProtocolESP })
	for n, p := range esp.split(80, 80, 40) {
		g.passes(number("to the service: fragment of ESP", n+1), p.frame(), "pass_no_service", "pass_fragment")
	}
	if s.address.Is4() {
		return
	}
	whole := s.datagram(0x902).split(80, 128)
	for _, n := range []int{40, 44, 47} {
		short := whole[1].with(func(p *packet) {
			p.edit = func(ip []byte) []byte {
				ip[4], ip[5] = 0, byte(n-40)
				return ip[:n]
			}
		})
		g.passes(fmt.Sprintf("fragment header cut to %d bytes", n-40), short.frame(), "pass_malformed", "pass_fragment").Malformed = true
	}
}
