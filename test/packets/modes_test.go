package packets

import "fmt"

// way is a mode, with the family of its outer header.
type way struct {
	mode string
	over byte // 4 or 6: the family of the backends; 0 is the service's
}

var (
	plainWays  = []way{{"nat", 0}, {"l2", 0}}
	tunnelWays = []way{{"ipip", 4}, {"ipip", 6}, {"gue", 4}, {"gue", 6}}
	allWays    = append(plainWays[:2:2], tunnelWays...)
)

// String returns for example "ipip over IPv4".
func (w way) String() string {
	if w.over == 0 {
		return w.mode
	}
	return fmt.Sprintf("%s over IPv%d", w.mode, w.over)
}

// service is one on port 80 with n servers, with the nth address of the family of IPv4 or IPv6.
func (w way) service(protocol string, family, nth, n int) service {
	address := fmt.Sprintf("203.0.113.%d", nth)
	if family == 6 {
		address = fmt.Sprintf("2001:db8:53::%d", nth)
	}
	name := fmt.Sprintf("%s-%s-ipv%d-%d", w.mode, protocol, family, nth)
	if w.over != 0 {
		name = fmt.Sprintf("%s-over-ipv%d-%s-ipv%d-%d", w.mode, w.over, protocol, family, nth)
	}
	s := newService(name, w.mode, protocol, address, 0)
	serverFamily := s.address
	switch w.over {
	case 4:
		serverFamily = addr(vip4)
	case 6:
		serverFamily = addr(vip6)
	}
	for i := range n {
		s.servers = append(s.servers, newServer(byte(i+1), serverFamily))
	}
	return s
}

// modes is every mode, family and protocol: two packets of a flow.
func modes() *group {
	var services []service
	var titles []string
	for _, family := range []int{4, 6} {
		for nth, w := range allWays {
			for _, protocol := range []string{"tcp", "udp", "sctp"} {
				if w.mode == "nat" && protocol == "sctp" {
					continue
				}
				services = append(services, w.service(protocol, family, nth+1, 1))
				titles = append(titles, fmt.Sprintf("%s, IPv%d %s", w, family, protocol))
			}
		}
	}
	g := newGroup("modes", services...)
	for i, s := range services {
		first := s.request()
		g.forwards(titles[i]+": first packet", first, s)
		g.forwards(titles[i]+": second packet", first.with(func(p *packet) {
			switch s.protocol {
			case "tcp":
				p.flags = "PA"
			case "sctp":
				p.vtag, p.payload = 77, sctpCookie
			}
			p.id++
		}), s).Like = titles[i] + ": first packet"
	}
	return g
}
