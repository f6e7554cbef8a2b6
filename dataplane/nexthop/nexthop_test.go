package nexthop

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// network is a host under test and a neighbouring host, each in its network namespace, joined by the
// interfaces eth0 and eth1. The test's thread is in the host's.
type network struct {
	host, peer *netlink.Handle
	changes    chan string // of addresses whose hop changed
}

const (
	peer4, peer6 = "192.0.2.2", "2001:db8::2"
	far4         = "198.51.100.7" // behind the peer
)

func newNetwork(t *testing.T) (*network, *Resolver) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	peerNamespace, err := netns.New()
	must(t, err)
	defer peerNamespace.Close()
	peer, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(peer.Close)
	hostNamespace, err := netns.New()
	must(t, err)
	defer hostNamespace.Close()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(host.Close)
	n := &network{host: host, peer: peer, changes: make(chan string, 1000)}
	for i, name := range []string{"eth0", "eth1"} {
		must(t, host.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(int(peerNamespace)),
		}))
		n.up(t, host, name, fmt.Sprintf("192.0.%d.1/24", 2+i), fmt.Sprintf("2001:db8:%x::1/64", i))
		n.up(t, peer, name, fmt.Sprintf("192.0.%d.2/24", 2+i), fmt.Sprintf("2001:db8:%x::2/64", i))
	}
	r, err := NewResolver(slog.Default(), func(address netip.Addr, _ Hop) { n.changes <- address.String() })
	must(t, err)
	t.Cleanup(r.Close)
	return n, r
}

func (n *network) up(t *testing.T, h *netlink.Handle, name string, addresses ...string) {
	t.Helper()
	link, err := h.LinkByName(name)
	must(t, err)
	must(t, h.LinkSetUp(link))
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		must(t, err)
		address.Flags = unix.IFA_F_NODAD
		must(t, h.AddrAdd(link, address))
	}
}

func (n *network) link(t *testing.T, h *netlink.Handle, name string) netlink.Link {
	t.Helper()
	link, err := h.LinkByName(name)
	must(t, err)
	return link
}

func (n *network) route(t *testing.T, to string, change func(*netlink.Route)) {
	t.Helper()
	_, prefix, err := net.ParseCIDR(to)
	must(t, err)
	route := &netlink.Route{Dst: prefix}
	change(route)
	must(t, n.host.RouteReplace(route))
}

func via(gateway string) func(*netlink.Route) {
	return func(r *netlink.Route) { r.Gw = net.ParseIP(gateway) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// becomes waits until the hop of an address is as wanted.
func becomes(t *testing.T, r *Resolver, address, what string, wanted func(Hop) bool) Hop {
	t.Helper()
	a := netip.MustParseAddr(address)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		hop, _ := r.Get(a)
		if wanted(hop) {
			return hop
		}
		if time.Now().After(deadline) {
			t.Fatalf("hop of %s is %+v, want %s", address, hop, what)
		}
	}
}

func resolved(h Hop) bool { return h.Resolved }

// unresolved wants a reason with the text.
func unresolved(text string) func(Hop) bool {
	return func(h Hop) bool { return !h.Resolved && strings.Contains(h.Reason, text) }
}

func TestOnLink(t *testing.T) {
	n, r := newNetwork(t)
	for address, source := range map[string]string{peer4: "192.0.2.1", peer6: "2001:db8::1"} {
		r.Watch(netip.MustParseAddr(address))
		hop := becomes(t, r, address, "resolved", resolved)
		host, peer := n.link(t, n.host, "eth0").Attrs(), n.link(t, n.peer, "eth0").Attrs()
		if hop.Interface != "eth0" || hop.Index != host.Index || hop.MAC.String() != peer.HardwareAddr.String() ||
			hop.LocalMAC.String() != host.HardwareAddr.String() || hop.MTU != 1500 || hop.Gateway.IsValid() || hop.Source.String() != source {
			t.Errorf("hop of %s is %+v", address, hop)
		}
	}
}

// What the kernel knows already is known from the first moment.
func TestWatchKnownNeighbour(t *testing.T) {
	_, first := newNetwork(t)
	address := netip.MustParseAddr(peer4)
	first.Watch(address)
	becomes(t, first, peer4, "resolved", resolved)
	second, err := NewResolver(slog.Default(), func(netip.Addr, Hop) {})
	must(t, err)
	defer second.Close()
	if hop := second.Watch(address); !hop.Resolved {
		t.Errorf("hop is %+v, want it resolved", hop)
	}
}

func TestBehindRouter(t *testing.T) {
	n, r := newNetwork(t)
	n.route(t, "198.51.100.0/24", via(peer4))
	r.Watch(netip.MustParseAddr(far4))
	hop := becomes(t, r, far4, "resolved", resolved)
	if hop.Gateway.String() != peer4 || hop.MAC.String() != n.link(t, n.peer, "eth0").Attrs().HardwareAddr.String() {
		t.Errorf("hop is %+v", hop)
	}
	n.route(t, "198.51.100.0/24", via("192.0.3.2"))
	becomes(t, r, far4, "through eth1", func(h Hop) bool { return h.Resolved && h.Interface == "eth1" })
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE })
	becomes(t, r, far4, "a blackhole", unresolved("blackhole"))
}

// An IPv4 route by an IPv6 router (RFC 5549).
func TestBehindIPv6Router(t *testing.T) {
	n, r := newNetwork(t)
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) {
		r.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP(peer6)}
		r.LinkIndex = n.link(t, n.host, "eth0").Attrs().Index
	})
	r.Watch(netip.MustParseAddr(far4))
	if hop := becomes(t, r, far4, "resolved", resolved); hop.Gateway.String() != peer6 {
		t.Errorf("hop is %+v", hop)
	}
}

func TestUnresolved(t *testing.T) {
	n, r := newNetwork(t)
	n.route(t, "203.0.113.0/25", func(r *netlink.Route) { r.Type = unix.RTN_UNREACHABLE })
	n.route(t, "203.0.113.128/25", func(r *netlink.Route) { r.Type = unix.RTN_PROHIBIT })
	for address, reason := range map[string]string{
		"10.9.9.9":       "no route to 10.9.9.9",
		"2001:db9::1":    "no route to 2001:db9::1",
		"203.0.113.1":    "no route to 203.0.113.1",
		"203.0.113.200":  "prohibited",
		"192.0.2.1":      "is an address of this host",
		"2001:db8::1":    "is an address of this host",
		"192.0.2.255":    "no unicast address",
		"192.0.2.77":     "no answer to ARP for 192.0.2.77 on eth0",
		"2001:db8:1::77": "no answer to neighbour discovery for 2001:db8:1::77 on eth1",
	} {
		r.Watch(netip.MustParseAddr(address))
		becomes(t, r, address, reason, unresolved(reason))
	}
}

func TestInterfaceGoesDown(t *testing.T) {
	n, r := newNetwork(t)
	r.Watch(netip.MustParseAddr(peer4))
	becomes(t, r, peer4, "resolved", resolved)
	must(t, n.peer.LinkSetDown(n.link(t, n.peer, "eth0"))) // takes the carrier away
	becomes(t, r, peer4, "unresolved", unresolved("eth0 is down"))
	must(t, n.peer.LinkSetUp(n.link(t, n.peer, "eth0")))
	becomes(t, r, peer4, "resolved again", resolved)
	must(t, n.host.LinkSetDown(n.link(t, n.host, "eth0"))) // takes the route away
	becomes(t, r, peer4, "unresolved", unresolved("no route"))
}

// A neighbour's new MAC is noticed with the first packet of ARP that it sends.
func TestNeighbourChangesMAC(t *testing.T) {
	n, r := newNetwork(t)
	r.Watch(netip.MustParseAddr(peer4))
	becomes(t, r, peer4, "resolved", resolved)
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	must(t, n.host.NeighSet(&netlink.Neigh{ // what the kernel does when it hears from the neighbour
		LinkIndex: n.link(t, n.host, "eth0").Attrs().Index, IP: net.ParseIP(peer4), HardwareAddr: moved, State: netlink.NUD_STALE,
	}))
	becomes(t, r, peer4, "at its new MAC", func(h Hop) bool { return h.Resolved && h.MAC.String() == moved.String() })
}

// A neighbour that is configured by hand is used as it is.
func TestPermanentNeighbour(t *testing.T) {
	n, r := newNetwork(t)
	index := n.link(t, n.host, "eth0").Attrs().Index
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	must(t, n.host.NeighSet(&netlink.Neigh{LinkIndex: index, IP: net.ParseIP("192.0.2.50"), HardwareAddr: moved, State: netlink.NUD_PERMANENT}))
	r.Watch(netip.MustParseAddr("192.0.2.50"))
	becomes(t, r, "192.0.2.50", "resolved", resolved)
	r.Unwatch(netip.MustParseAddr("192.0.2.50"))
	neighbours, err := n.host.NeighList(index, unix.AF_INET)
	must(t, err)
	for _, neighbour := range neighbours {
		if neighbour.IP.String() == "192.0.2.50" && neighbour.State == netlink.NUD_PERMANENT {
			return
		}
	}
	t.Errorf("the permanent neighbour is gone: %+v", neighbours)
}

// The kernel is asked to keep watched neighbours fresh, and no longer than they are watched.
func TestManagedNeighbour(t *testing.T) {
	n, r := newNetwork(t)
	managed := func() bool {
		neighbours, err := n.host.NeighList(n.link(t, n.host, "eth0").Attrs().Index, unix.AF_INET)
		must(t, err)
		for _, neighbour := range neighbours {
			if neighbour.IP.String() == peer4 {
				return neighbour.FlagsExt&netlink.NTF_EXT_MANAGED != 0
			}
		}
		return false
	}
	r.Watch(netip.MustParseAddr(peer4))
	becomes(t, r, peer4, "resolved", resolved)
	if !managed() {
		t.Error("the neighbour is not managed")
	}
	r.Unwatch(netip.MustParseAddr(peer4))
	if managed() {
		t.Error("the neighbour is still managed")
	}
}

func TestBridgeIsRefused(t *testing.T) {
	n, r := newNetwork(t)
	must(t, n.host.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	n.up(t, n.host, "br0", "192.0.4.1/24")
	port := n.link(t, n.host, "eth1")
	must(t, n.host.LinkSetMaster(port, n.link(t, n.host, "br0")))
	r.Watch(netip.MustParseAddr("192.0.4.2"))
	becomes(t, r, "192.0.4.2", "refused", unresolved("br0 is a bridge"))
}

// Only what differs is reported.
func TestChangesAreReportedOnce(t *testing.T) {
	n, r := newNetwork(t)
	r.Watch(netip.MustParseAddr(peer4))
	becomes(t, r, peer4, "resolved", resolved)
	for range 5 {
		n.route(t, "198.51.100.0/24", via(peer4))
		n.route(t, "198.51.100.0/24", via("192.0.3.2"))
	}
	time.Sleep(20 * debounce) // nothing is to come: only time can tell
	reports := len(n.changes)
	if reports != 1 {
		t.Errorf("%d changes are reported, want 1", reports)
	}
}

func BenchmarkRefresh(b *testing.B) {
	t := &testing.T{}
	_, r := newNetwork(t)
	for i := range 5000 {
		r.Watch(netip.AddrFrom4([4]byte{192, 0, 3, byte(i)}))
		r.Watch(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	for b.Loop() {
		r.mu.Lock()
		r.markAll()
		r.mu.Unlock()
		r.refresh()
	}
}
