package packets

import "fmt"

// noBackends is services that nobody serves, and servers that take no new flows.
func noBackends() *group {
	var services []service
	var titles []string
	states := []struct{ name, extra string }{
		{"none", ""}, {"draining", "state: draining"}, {"weight-0", "weight: 0"}, {"down", "state: down"},
	}
	for _, family := range []int{4, 6} {
		for i, state := range states {
			for k, w := range allWays {
				s := w.service("tcp", family, 10*i+k+1, 2)
				for n := range s.servers {
					s.servers[n].extra = state.extra
				}
				if state.extra == "" {
					s.servers = nil
				}
				services = append(services, s)
				titles = append(titles, fmt.Sprintf("%s, IPv%d, %s: ", w, family, state.name))
			}
		}
	}
	partly := plainWays[1].service("udp", 4, 100, 4)
	for i, state := range states[1:] {
		partly.servers[i].extra = state.extra
	}
	g := newGroup("nobackend", append(services, partly)...)
	for i, s := range services {
		g.drops(titles[i]+"request", s.request(), s, "drop_no_backend")
		router := clientRouter4
		if s.address.Is6() {
			router = clientRouter6
		}
		e := s.toClientOf(s.request()).icmpError(s.address.String(), router, 3, 1, 8)
		g.drops(titles[i]+"error", e, s, "drop_no_backend")
	}
	for i := range 8 {
		g.forwards(number("one of four serves: client", i+1), partly.request().fromPort(uint16(40000+i)), partly, "b4")
	}
	return g
}

// everyPort is services without a port, beside some with one.
func everyPort() *group {
	var services []service
	for _, family := range []int{4, 6} {
		for i, w := range allWays {
			for _, protocol := range []string{"tcp", "udp"} {
				all := w.service(protocol, family, i+1, 1)
				all.port = 0
				one := w.service(protocol, family, i+1, 1)
				one.name += "-80"
				one.servers[0] = newServer(9, one.servers[0].address)
				services = append(services, all, one)
			}
		}
	}
	g := newGroup("anyport", services...)
	for i := 0; i < len(services); i += 2 {
		all, one := services[i], services[i+1]
		for _, port := range []uint16{1, 79, 81, 1023, 1024, 8080, 32767, 65535} {
			p := all.request().with(func(p *packet) { p.dport = port })
			g.forwards(number(all.name+": port", int(port)), p, all)
		}
		g.forwards(one.name+": port of its own", one.request(), one)
	}
	return g
}

// sources is clients that are treated by their prefix: of several the longest decides.
func sources() *group {
	var services []service
	var titles []string
	for _, family := range []int{4, 6} {
		for i, w := range []way{plainWays[0], plainWays[1], tunnelWays[2]} {
			for _, protocol := range []string{"tcp", "udp"} {
				s := w.service(protocol, family, i+1, 3)
				s.servers[1].extra = "set: gold"
				s.servers[2].extra = "set: iron, state: draining"
				s.extra = []string{
					"sources:",
					fmt.Sprintf("  - {prefix: %q, deny: true}", prefixes[family][0]),
					fmt.Sprintf("  - {prefix: %q, set: gold}", prefixes[family][1]),
					fmt.Sprintf("  - {prefix: %q, deny: true}", prefixes[family][2]),
					fmt.Sprintf("  - {prefix: %q, set: iron}", prefixes[family][3]),
				}
				services = append(services, s)
				titles = append(titles, fmt.Sprintf("%s, IPv%d %s: ", w, family, protocol))
			}
		}
	}
	g := newGroup("sources", services...)
	for i, s := range services {
		from := clientsOf[family(s)]
		request := func(n int) packet { return s.request().fromClient(from[n]) }
		g.forwards(titles[i]+"no rule", request(0), s, "b1")
		g.drops(titles[i]+"denied, first address", request(1), s, "drop_denied")
		g.drops(titles[i]+"denied, last address", request(2), s, "drop_denied")
		g.forwards(titles[i]+"behind the denied prefix", request(3), s, "b1")
		g.forwards(titles[i]+"set in the denied prefix, first address", request(4), s, "b2")
		g.forwards(titles[i]+"set in the denied prefix, last address", request(5), s, "b2")
		g.drops(titles[i]+"denied host in the set's prefix", request(6), s, "drop_denied")
		g.drops(titles[i]+"set without a backend for new flows", request(7), s, "drop_no_backend")
		g.passes(titles[i]+"denied, to another port", request(1).with(func(p *packet) { p.dport = 81 }).frame(), "pass_no_service")
		again := request(4).with(func(p *packet) { p.flags = "A" })
		g.forwards(titles[i]+"set, again", again, s, "b2").Like = titles[i] + "set in the denied prefix, first address"
	}
	return g
}

// prefixes are those of the rules, and clientsOf addresses in and beside them.
var (
	prefixes = map[int][]string{
		4: {"198.18.0.0/16", "198.18.64.0/18", "198.18.65.1/32", "198.19.0.0/16"},
		6: {"2001:db8:bad::/48", "2001:db8:bad:4000::/50", "2001:db8:bad:4000::66/128", "2001:db8:a::/48"},
	}
	clientsOf = map[string][]string{
		"IPv4": {client4, "198.18.0.0", "198.18.255.255", "198.17.255.255", "198.18.64.0", "198.18.127.255", "198.18.65.1", "198.19.3.4"},
		"IPv6": {
			client6, "2001:db8:bad::", "2001:db8:bad:ffff:ffff:ffff:ffff:ffff", "2001:db8:bac:ffff::1", "2001:db8:bad:4000::1",
			"2001:db8:bad:7fff:ffff:ffff:ffff:ffff", "2001:db8:bad:4000::66", "2001:db8:a::4",
		},
	}
)

// limits is bounds of new flows, of one client or of a prefix. A bucket fills by one in a second, so what
// is refused comes right behind what fills it.
func limits() *group {
	var services []service
	var titles []string
	for _, family := range []int{4, 6} {
		wide := map[int]int{4: 24, 6: 64}[family]
		for i, w := range []way{plainWays[0], plainWays[1], tunnelWays[1]} {
			for _, protocol := range []string{"tcp", "udp"} {
				alone, shared := w.service(protocol, family, 2*i+1, 2), w.service(protocol, family, 2*i+2, 2)
				alone.extra = []string{"limit: {rate: 1, burst: 3}"}
				shared.extra = []string{fmt.Sprintf("limit: {rate: 1, burst: 3, prefix: %d}", wide)}
				services = append(services, alone, shared)
				title := fmt.Sprintf("%s, IPv%d %s, ", w, family, protocol)
				titles = append(titles, title+"each client: ", title+"prefix: ")
			}
		}
	}
	g := newGroup("limits", services...)
	for i, s := range services {
		g.limited(titles[i], s, i%2 == 1)
	}
	return g
}

func (g *group) limited(title string, s service, shared bool) {
	hosts := map[string][2]string{"IPv4": {"192.0.2.77", "198.51.100.77"}, "IPv6": {"2001:db8:1::77", "2001:db8:77::1"}}[family(s)]
	for i := range 3 {
		g.forwards(number(title+"flow", i+1), s.request().fromPort(uint16(40001+i)), s)
	}
	g.drops(title+"flow 4", s.request().fromPort(40004), s, "drop_rate_limited")
	neighbour := s.request().fromClient(hosts[0])
	if shared {
		g.drops(title+"neighbour", neighbour, s, "drop_rate_limited")
	} else {
		g.forwards(title+"neighbour", neighbour, s)
	}
	g.forwards(title+"another network", s.request().fromClient(hosts[1]), s)
	later := s.request().fromPort(40001).with(func(p *packet) { p.flags = "A" })
	for i := range 5 {
		g.forwards(number(title+"later packet of flow 1,", i+1), later, s).Like = title + "flow 1"
	}
}

// hashes is what of a packet chooses its backend.
func hashes() *group {
	const clients = 8
	var services []service
	var titles []string
	kinds := []string{"flow", "source", "source/24", "no-source-port", "destination-port"}
	for _, family := range []int{4, 6} {
		for i, kind := range kinds {
			s := way{mode: "l2"}.service("udp", family, i+1, 4)
			if family == 6 && kind == "source/24" {
				kind = "source/56"
			}
			s.port, s.extra = 0, []string{"hash: " + kind}
			services = append(services, s)
			titles = append(titles, fmt.Sprintf("IPv%d, %s: ", family, kind))
		}
	}
	g := newGroup("hash", services...)
	for i, s := range services {
		kind := kinds[i%len(kinds)]
		g.alike(titles[i]+"source port", s, clients, kind != "flow", func(p *packet, n int) { p.sport += uint16(n) })
		g.alike(titles[i]+"destination port", s, clients, kind == "source" || kind == "source/24", func(p *packet, n int) { p.dport += uint16(n) })
		g.alike(titles[i]+"host", s, clients, kind == "source/24" || kind == "destination-port", func(p *packet, n int) { p.source = nth(*p, n, 0) })
		g.alike(titles[i]+"network", s, clients, kind == "destination-port", func(p *packet, n int) { p.source = nth(*p, 0, n) })
	}
	return g
}

// alike adds packets that differ in one thing, and that all reach the same backend or not.
func (g *group) alike(title string, s service, n int, same bool, change func(p *packet, n int)) {
	for i := range n {
		p := s.request().with(func(p *packet) {
			p.dport = 7000
			change(p, i)
		})
		c := g.forwards(number(title, i+1), p, s)
		if same && i > 0 {
			c.Like = number(title, 1)
		}
	}
	if !same {
		g.Spread = append(g.Spread, spread{names(title, n), 2})
	}
}
