package nexthop

import (
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOnLink(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	for address, source := range map[string]string{peer4: "192.0.2.1", peer6: "2001:db8::1"} {
		watchAll(r, address)
		hop := becomes(t, r, address, "resolved", resolved)
		if hop.Interface != "eth0" || hop.Index != link(t, n.host, "eth0").Attrs().Index || hop.MAC.String() != mac(t, n.peer, "eth0").String() ||
			hop.LocalMAC.String() != mac(t, n.host, "eth0").String() || hop.MTU != 1500 || hop.Gateway.IsValid() ||
			hop.Source.String() != source || hop.Reason != "" || hop.VLANs != nil {
			t.Errorf("hop of %s is %+v", address, hop)
		}
	}
}

func TestBehindRouter(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", via(peer4))
	n.route(t, "2001:db8:ffff::/48", via(peer6))
	r := n.resolver(t, probeInterval)
	for address, router := range map[string]string{far4: peer4, "2001:db8:ffff::7": peer6} {
		watchAll(r, address)
		hop := becomes(t, r, address, "resolved", resolved)
		if hop.Gateway.String() != router || hop.MAC.String() != mac(t, n.peer, "eth0").String() {
			t.Errorf("hop of %s is %+v", address, hop)
		}
	}
}

func TestRouteChanges(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", via(peer4))
	r := n.resolver(t, probeInterval)
	watchAll(r, far4)
	becomes(t, r, far4, "through eth0", through("eth0"))
	n.route(t, "198.51.100.0/24", via("192.0.3.2"))
	becomes(t, r, far4, "through eth1", through("eth1"))
	n.route(t, "198.51.100.0/25", via(peer4))
	becomes(t, r, far4, "by the longer prefix", through("eth0"))
	n.route(t, far4+"/32", func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE })
	becomes(t, r, far4, "a blackhole", unresolved("the route to 198.51.100.7 is a blackhole"))
}

// A rule changes the way without any change to a route.
func TestRuleChanges(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", via(peer4))
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) { r.Gw, r.Table = net.ParseIP("192.0.3.2"), 100 })
	r := n.resolver(t, probeInterval)
	watchAll(r, far4)
	becomes(t, r, far4, "through eth0", through("eth0"))
	rule := netlink.NewRule()
	rule.Table, rule.Priority = 100, 10
	must(t, n.host.RuleAdd(rule))
	becomes(t, r, far4, "through eth1", through("eth1"))
}

// An IPv4 route by an IPv6 router (RFC 5549).
func TestBehindIPv6Router(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) {
		r.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP(peer6)}
		r.LinkIndex = link(t, n.host, "eth0").Attrs().Index
	})
	r := n.resolver(t, probeInterval)
	watchAll(r, far4)
	if hop := becomes(t, r, far4, "resolved", resolved); hop.Gateway.String() != peer6 {
		t.Errorf("hop is %+v", hop)
	}
}

func TestMTU(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) { r.Gw, r.MTU = net.ParseIP(peer4), 1280 })
	r := n.resolver(t, probeInterval)
	watchAll(r, far4, peer4)
	must(t, n.host.LinkSetMTU(link(t, n.host, "eth0"), 1400))
	becomes(t, r, peer4, "of the interface's MTU", func(h Hop) bool { return h.Resolved && h.MTU == 1400 })
	becomes(t, r, far4, "of the route's MTU", func(h Hop) bool { return h.Resolved && h.MTU == 1280 })
}

func TestUnresolved(t *testing.T) {
	n := newNetwork(t)
	for i, kind := range []int{unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE} {
		n.route(t, []string{"203.0.113.0/26", "203.0.113.64/26", "203.0.113.128/26"}[i], func(r *netlink.Route) { r.Type = kind })
		n.route(t, []string{"2001:db8:a::/48", "2001:db8:b::/48", "2001:db8:c::/48"}[i], func(r *netlink.Route) { r.Type = kind })
	}
	r := n.resolver(t, probeInterval)
	for address, reason := range map[string]string{
		"10.9.9.9":       "no route to 10.9.9.9",
		"2001:db9::1":    "no route to 2001:db9::1",
		"203.0.113.1":    "the route to 203.0.113.1 is unreachable",
		"2001:db8:a::1":  "the route to 2001:db8:a::1 is unreachable",
		"203.0.113.65":   "the route to 203.0.113.65 is prohibited",
		"2001:db8:b::1":  "the route to 2001:db8:b::1 is prohibited",
		"203.0.113.129":  "the route to 203.0.113.129 is a blackhole",
		"2001:db8:c::1":  "the route to 2001:db8:c::1 is a blackhole",
		"192.0.2.1":      "is an address of this host",
		"2001:db8::1":    "is an address of this host",
		"192.0.2.255":    "no unicast address",
		"192.0.2.77":     "no answer to ARP for 192.0.2.77 on eth0",
		"2001:db8:1::77": "no answer to neighbour discovery for 2001:db8:1::77 on eth1",
	} {
		watchAll(r, address)
		becomes(t, r, address, reason, unresolved(reason))
	}
}

func TestInterfaceGoesDown(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	watchAll(r, peer4)
	becomes(t, r, peer4, "resolved", resolved)
	must(t, n.peer.LinkSetDown(link(t, n.peer, "eth0"))) // takes the carrier away
	becomes(t, r, peer4, "unresolved", unresolved("interface eth0 is down"))
	must(t, n.peer.LinkSetUp(link(t, n.peer, "eth0")))
	becomes(t, r, peer4, "resolved again", resolved)
	must(t, n.host.LinkSetDown(link(t, n.host, "eth0"))) // takes the route away
	becomes(t, r, peer4, "unresolved", unresolved("no route"))
	must(t, n.host.LinkSetUp(link(t, n.host, "eth0")))
	becomes(t, r, peer4, "resolved again", resolved)
}

// What an interface decides, on any kernel: they are as if they had been read.
func TestDescribeLink(t *testing.T) {
	const ad, q = netlink.VLAN_PROTOCOL_8021AD, netlink.VLAN_PROTOCOL_8021Q
	running := uint32(unix.IFF_UP | unix.IFF_RUNNING)
	local := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	attrs := func(index int, name string, flags uint32) netlink.LinkAttrs {
		return netlink.LinkAttrs{Index: index, Name: name, RawFlags: flags, HardwareAddr: local, MTU: 1500, NetNsID: -1}
	}
	vlan := func(index, parent int, name string, id int, protocol netlink.VlanProtocol) *netlink.Vlan {
		v := &netlink.Vlan{LinkAttrs: attrs(index, name, running), VlanId: id, VlanProtocol: protocol}
		v.ParentIndex = parent
		return v
	}
	r := &Resolver{links: map[int]netlink.Link{
		1: &netlink.Device{LinkAttrs: attrs(1, "eth0", running)},
		2: &netlink.Device{LinkAttrs: attrs(2, "eth1", unix.IFF_UP)},
		3: vlan(3, 1, "q", 100, q),
		4: vlan(4, 1, "ad", 200, ad),
		5: vlan(5, 4, "adq", 7, q),
		6: vlan(6, 3, "qq", 8, q),
		7: vlan(7, 5, "adqq", 9, q),
		8: vlan(8, 2, "below down", 9, q),
		9: vlan(9, 1, "below elsewhere", 9, q),
	}}
	r.links[9].Attrs().NetNsID = 3
	r.links[10] = &netlink.Macvlan{LinkAttrs: attrs(10, "mac0", running)}
	r.links[11] = vlan(11, 10, "on mac0", 9, q)
	r.links[12] = &netlink.Bond{LinkAttrs: attrs(12, "bond0", running)}
	r.links[13] = &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "tun0", RawFlags: running, MTU: 1500}}
	for index, want := range map[int]struct {
		reason string
		below  int
		tags   []uint16
	}{
		1:  {below: 1},
		2:  {reason: "interface eth1 is down"},
		3:  {below: 1, tags: []uint16{100}},
		4:  {reason: "interface ad has another tag than 802.1Q"},
		5:  {below: 1, tags: []uint16{200, 7}},
		6:  {reason: "interface qq has other tags than 802.1Q inside 802.1ad"},
		7:  {reason: "interface adqq has more than two VLAN tags"},
		8:  {reason: "interface eth1 is down"},
		9:  {reason: "interface below elsewhere belongs to one in another network namespace"},
		10: {reason: "interface mac0 is a MACVLAN, which XDP cannot send through: route to the interface below it"},
		11: {reason: "interface mac0 is a MACVLAN, which XDP cannot send through: route to the interface below it"},
		12: {below: 12},
		13: {reason: "interface tun0 has no Ethernet address"},
	} {
		var hop Hop
		reason := r.describeLink(&hop, index)
		if reason != want.reason || reason == "" && (hop.Index != want.below || !slices.Equal(hop.VLANs, want.tags)) {
			t.Errorf("interface %d: %q, %+v, want %+v", index, reason, hop, want)
		}
	}
}

func TestBridgeIsRefused(t *testing.T) {
	n := newNetwork(t)
	must(t, n.host.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	must(t, n.host.LinkSetMaster(link(t, n.host, "eth1"), link(t, n.host, "br0")))
	up(t, n.host, "br0", "192.0.4.1/24")
	r := n.resolver(t, probeInterval)
	watchAll(r, "192.0.4.2")
	becomes(t, r, "192.0.4.2", "refused", unresolved("br0 is a bridge"))
}
