package packets

import (
	"fmt"
	"slices"
)

// serverID is the one of the nth backend.
func serverID(n byte) []byte { return []byte{0xa0, 0xb1, 0xc2, n} }

// connectionID is one of QUIC-LB in plain text: configuration, server ID and a nonce up to so many bytes.
func connectionID(config byte, id []byte, length int) []byte {
	c := append([]byte{config<<5 | 0x1d}, id...)
	for len(c) < length {
		c = append(c, byte(0x40+len(c)))
	}
	return c
}

// longHeader is an Initial packet, shortHeader one with 1-RTT protection (RFC 9000, section 17).
func longHeader(id []byte) []byte {
	p := append([]byte{0xc3, 0, 0, 0, 1, byte(len(id))}, id...)
	return append(p, make([]byte, 60)...)
}

func shortHeader(id []byte) []byte {
	return append(append([]byte{0x43}, id...), make([]byte, 40)...)
}

// connectionIDs is QUIC: connection IDs name their backend, whatever the client's address.
func connectionIDs() *group {
	var services []service
	var titles []string
	for _, family := range []int{4, 6} {
		for i, w := range []way{plainWays[0], plainWays[1], tunnelWays[0], tunnelWays[3]} {
			s := w.service("udp", family, i+1, 4)
			s.port, s.extra = 443, []string{"quic: {config: 0, server-id-length: 4}"}
			for n := range s.servers {
				s.servers[n].extra = fmt.Sprintf("server-id: %q", fmt.Sprintf("%x", serverID(byte(n+1))))
			}
			s.servers[3].extra += ", state: down"
			services = append(services, s)
			titles = append(titles, fmt.Sprintf("%s, IPv%d: ", w, family))
		}
	}
	g := newGroup("quic", services...)
	for i, s := range services {
		g.named(titles[i], s)
		g.byTable(titles[i], s)
		g.fragmentedNamed(titles[i], s)
	}
	return g
}

// fragmentedNamed adds datagrams in fragments, of which only the first has the connection ID.
func (g *group) fragmentedNamed(title string, s service) {
	for n := byte(1); n <= 3; n++ {
		whole := s.datagram(0xa00 + uint32(n)).fromPort(uint16(55000 + int(n)))
		copy(whole.payload, shortHeader(connectionID(0, serverID(n), 8)))
		for i, p := range whole.split(80, 80, 48) {
			g.forwards(fmt.Sprintf("%sfragment %d to b%d", title, i+1, n), p, s, fmt.Sprintf("b%d", n))
		}
	}
}

// named adds packets whose backend is known from them.
func (g *group) named(title string, s service) {
	port := uint16(50000)
	send := func(name string, n byte, change func(*packet), payload []byte) {
		port++
		p := s.request().fromPort(port).with(change).with(func(p *packet) { p.payload = payload })
		g.forwards(fmt.Sprintf("%s%s to b%d", title, name, n), p, s, fmt.Sprintf("b%d", n))
	}
	same := func(*packet) {}
	other := func(p *packet) { p.source = newServer(202, p.source).address }
	for n := byte(1); n <= 3; n++ {
		id := connectionID(0, serverID(n), 8)
		send("Initial", n, same, longHeader(id))
		send("Initial from elsewhere", n, other, longHeader(id))
		send("short header", n, same, shortHeader(id))
		send("short header from elsewhere", n, other, shortHeader(id))
		send("shortest ID, Initial", n, same, longHeader(connectionID(0, serverID(n), 5)))
		send("shortest ID, short header", n, same, shortHeader(connectionID(0, serverID(n), 5)))
		send("longest ID, Initial", n, same, longHeader(connectionID(0, serverID(n), 20)))
		send("longest ID, short header", n, same, shortHeader(connectionID(0, serverID(n), 20)))
		send("nothing behind the ID", n, same, shortHeader(id)[:1+5])
		send("Initial behind options or extension headers", n, withOptions, longHeader(id))
		send("short header in VLANs", n, func(p *packet) { p.tags = []tag{provider, vlan7} }, shortHeader(id))
		send("another version", n, same, slices.Replace(longHeader(id), 1, 5, 0x6b, 0x33, 0x43, 0xcf))
	}
}

// byTable adds packets whose backend is that of their slot.
func (g *group) byTable(title string, s service) {
	id := connectionID(0, serverID(1), 8)
	for i, c := range []struct {
		name    string
		payload []byte
	}{
		{"unknown server ID, Initial", longHeader(connectionID(0, serverID(99), 8))},
		{"unknown server ID, short header", shortHeader(connectionID(0, serverID(99), 8))},
		{"another configuration, Initial", longHeader(connectionID(1, serverID(1), 8))},
		{"another configuration, short header", shortHeader(connectionID(6, serverID(1), 8))},
		{"configuration 7, Initial", longHeader(connectionID(7, serverID(1), 8))},
		{"configuration 7, short header", shortHeader(connectionID(7, serverID(1), 8))},
		{"ID of a backend that is down", shortHeader(connectionID(0, serverID(4), 8))},
		{"ID shorter than a server ID", longHeader(connectionID(0, serverID(1)[:3], 4))},
		{"no ID", longHeader(nil)},
		{"ID that ends behind the packet, Initial", longHeader(id)[:9]},
		{"ID that ends behind the packet, short header", shortHeader(id)[:5]},
		{"Initial cut before the ID's length", longHeader(id)[:5]},
		{"first byte of a long header alone", []byte{0xc3}},
		{"first byte of a short header alone", []byte{0x43}},
		{"empty datagram", nil},
	} {
		p := s.request().fromPort(uint16(52000 + i)).with(func(p *packet) { p.payload = c.payload })
		g.forwards(title+c.name, p, s, "b1", "b2", "b3")
	}
	for _, n := range []byte{1, 2, 3, 1} {
		p := s.request().fromPort(54000).with(func(p *packet) { p.payload = shortHeader(connectionID(0, serverID(n), 8)) })
		g.forwards(fmt.Sprintf("%sone flow, packet %d, to b%d", title, len(g.Cases), n), p, s, fmt.Sprintf("b%d", n))
	}
	first, second := title+"table", title+"table, the same flow"
	p := s.request().fromPort(53000)
	unknown := func(p *packet) { p.payload = shortHeader(connectionID(7, serverID(2), 8)) }
	g.forwards(first, p.with(unknown), s, "b1", "b2", "b3")
	g.forwards(second, p.with(unknown), s, "b1", "b2", "b3").Like = first
}
