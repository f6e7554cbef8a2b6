package integration

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

// Every mode carries TCP and UDP over both families, and transfers larger than any window.
func TestModes(t *testing.T) {
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			t.Run("http", func(t *testing.T) { request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 400, backends) })
			t.Run("udp", func(t *testing.T) { request(t, traffic.Datagram(s.client, w.target(portUDP), 1200), 400, backends) })
			t.Run("large", func(t *testing.T) { request(t, traffic.Transfer(s.client, w.target(portTCP), 8<<20), 16, 0) })
			s.wantNoDrops(t)
		})
	}
}

// Datagrams that are sent in fragments, and answered in fragments, arrive whole. Answers are cut to what the way to
// the client carries.
func TestFragments(t *testing.T) {
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) {
			s := newSiteWithMTU(t, map[bool]int{true: 1600, false: 1500}[w.mode.Encapsulates()])
			for _, b := range s.backends {
				must(t, errors.Join(limitRoute(b, "0.0.0.0/0", "198.51.100.1"), limitRoute(b, "::/0", "2001:db8:2::1")))
			}
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			request(t, traffic.Datagram(s.client, w.target(portUDP), 4000), 100, backends)
			s.wantNoDrops(t)
		})
	}
}

// limitRoute has a host send packets of at most 1,500 bytes by a route.
func limitRoute(h *lab.Host, prefix, gateway string) error {
	_, destination, err := net.ParseCIDR(prefix)
	if err != nil {
		return err
	}
	return h.Netlink().RouteReplace(&netlink.Route{Dst: destination, Gw: net.ParseIP(gateway), MTU: 1500})
}

// Where the way to the backends has no room for an outer header, clients are told what fits.
func TestPathMTU(t *testing.T) {
	for _, w := range ways[4:] {
		t.Run(w.String(), func(t *testing.T) {
			s := newSiteWithMTU(t, 1500)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			request(t, traffic.Transfer(s.client, w.target(portTCP), 1<<20), 16, 0)
			status, err := s.api.Status(t.Context())
			must(t, err)
			if status.Reasons["answer_too_big"] == 0 {
				t.Error("no packet was too big: the test shows nothing")
			}
			s.wantNoDrops(t)
		})
	}
}

// Backends learn of a narrow way to the client, which only ICMP errors to the service's address tell of.
func TestNarrowWayToClient(t *testing.T) {
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			far := s.behindNarrowLink(t)
			request(t, traffic.Transfer(far, w.target(portTCP), 1<<20), 16, 0)
			s.wantNoDrops(t)
		})
	}
}

// behindNarrowLink makes a host behind the client, with a link of MTU 1400 between two others:
//
//	far --1500-- near --1400-- client --1500-- balancer
func (s *site) behindNarrowLink(t *testing.T) *lab.Host {
	t.Helper()
	far, near := host(t, s.lab, "far"), host(t, s.lab, "near")
	must(t, errors.Join(
		s.lab.Connect(far, "eth0", near, "eth0", lab.LinkOptions{}),
		s.lab.Connect(near, "eth1", s.client, "eth1", lab.LinkOptions{MTU: 1400}),
		far.Addr("eth0", "198.18.1.2/24", "2001:db8:8::2/64"), near.Addr("eth0", "198.18.1.1/24", "2001:db8:8::1/64"),
		near.Addr("eth1", "198.18.2.2/24", "2001:db8:9::2/64"), s.client.Addr("eth1", "198.18.2.1/24", "2001:db8:9::1/64"),
		near.Forward(), s.client.Forward(),
		far.Route("0.0.0.0/0", "198.18.1.1"), far.Route("::/0", "2001:db8:8::1"),
		near.Route("0.0.0.0/0", "198.18.2.1"), near.Route("::/0", "2001:db8:9::1"),
		s.client.Route("198.18.1.0/24", "198.18.2.2"), s.client.Route("2001:db8:8::/64", "2001:db8:9::2"),
		s.balancer.Route("198.18.0.0/15", "192.0.2.2"), s.balancer.Route("2001:db8:8::/63", "2001:db8:1::2"),
	))
	return far
}

// 10,000 connections through each mode arrive complete and uncorrupted.
func TestTenThousandConnections(t *testing.T) {
	for _, w := range []way{ways[0], ways[2], ways[4], ways[8]} {
		t.Run(w.mode.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			request(t, traffic.Transfer(s.client, w.target(portTCP), 2000), 10000, backends)
			s.wantNoDrops(t)
		})
	}
}

// wantNoDrops wants no packet to have been dropped for any reason.
func (s *site) wantNoDrops(t *testing.T) {
	t.Helper()
	status, err := s.api.Status(t.Context())
	must(t, err)
	for reason, count := range status.Reasons {
		if reason[:5] == "drop_" && count > 0 {
			t.Errorf("%d packets ended as %s", count, reason)
		}
	}
}
