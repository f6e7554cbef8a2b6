package packets

import (
	"bytes"
	"fmt"
	"slices"
)

// associations is SCTP: an association keeps its backend when its client's address changes.
func associations() *group {
	const clients = 6
	var services []service
	var titles []string
	for _, family := range []int{4, 6} {
		for i, w := range []way{plainWays[1], tunnelWays[0], tunnelWays[3]} {
			services = append(services, w.service("sctp", family, i+1, 3))
			titles = append(titles, fmt.Sprintf("%s, IPv%d: ", w, family))
		}
	}
	g := newGroup("sctp", services...)
	for i, s := range services {
		for n := range clients {
			g.association(titles[i], s, n+1)
		}
		g.Spread = append(g.Spread, spread{names(titles[i]+"INIT", clients), 2})
		g.strangeSCTP(titles[i], s)
	}
	return g
}

// association adds the packets of one from its beginning to its end, the later ones from other addresses.
func (g *group) association(title string, s service, n int) {
	chunk := func(tag uint32, chunk []byte) packet {
		return s.request().fromPort(uint16(30000 + n)).with(func(p *packet) { p.vtag, p.payload = tag, chunk })
	}
	moved := func(p packet, host byte) packet {
		p.source = newServer(host, p.source).address
		return p
	}
	tag, like := uint32(0xdead0000+n), number(title+"INIT", n)
	g.forwards(like, chunk(0, sctpInit), s)
	for _, c := range []struct {
		name string
		in   packet
	}{
		{"COOKIE ECHO", chunk(tag, sctpCookie)},
		{"DATA", chunk(tag, sctpData)},
		{"DATA from another address", moved(chunk(tag, sctpData), 50)},
		{"HEARTBEAT from a third address", moved(chunk(tag, []byte{4, 0, 0, 8, 0, 1, 0, 4}), 51)},
		{"DATA from the first address again", chunk(tag, sctpData)},
		{"SHUTDOWN", chunk(tag, []byte{7, 0, 0, 8, 0, 0, 0, 1})},
	} {
		g.forwards(number(title+c.name+" of", n), c.in, s).Like = like
	}
	elsewhere := moved(chunk(tag, append(slices.Clone(sctpData), make([]byte, 100)...)), 52)
	elsewhere.id, elsewhere.mayFragment = 0xb00+uint32(n), true
	for i, p := range elsewhere.split(40, 40, 52) {
		g.forwards(fmt.Sprintf("%sfragment %d from another address of %d", title, i+1, n), p, s).Like = like
	}
}

// strangeSCTP adds packets outside any association.
func (g *group) strangeSCTP(title string, s service) {
	p := s.request().fromPort(31000)
	g.forwards(title+"DATA of an unknown association", p.with(func(p *packet) { p.vtag, p.payload = 5, sctpData }), s)
	g.forwards(title+"ABORT", p.with(func(p *packet) { p.vtag, p.payload = 5, []byte{6, 0, 0, 4} }), s)
	g.forwards(title+"wrong checksum", p.fromPort(31001).with(func(p *packet) { p.badChecksum = true }), s)
	bundled := bytes.Join([][]byte{sctpCookie, sctpData}, nil)
	g.forwards(title+"two chunks", p.fromPort(31002).with(func(p *packet) { p.vtag, p.payload = 6, bundled }), s)
	g.forwards(title+"no chunk", p.fromPort(31003).with(func(p *packet) { p.vtag, p.payload = 7, nil }), s)
	g.passes(title+"another port", p.with(func(p *packet) { p.dport++ }).frame(), "pass_no_service")
	g.passes(title+"cut in the ports", p.cut(p.headerLength()+3).frame(), "pass_malformed").Malformed = true
	short := p.with(func(p *packet) {
		p.edit = func(ip []byte) []byte {
			n := len(ip) - len(p.transport()) + 7
			if ip[0]>>4 == 4 {
				put(ip, 2, 10, uint16(n))
			} else {
				ip[4], ip[5] = 0, 7
			}
			return ip[:n]
		}
	})
	g.passes(title+"header of 7 bytes", short.frame(), "pass_malformed").Malformed = true
}
