package nexthop

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// learned tells whether the resolver keeps the host's neighbour on eth0.
func (n *network) learned(t *testing.T, address string) bool {
	entry := n.neighbour(t, address)
	return entry != nil && entry.Flags&netlink.NTF_EXT_LEARNED != 0
}

// A neighbour that does not say that its MAC is another is found there, and no moment without a hop.
func TestNeighbourChangesMACSilently(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	watchAll(r, peer4, peer6)
	becomes(t, r, peer4, "resolved", resolved)
	becomes(t, r, peer6, "resolved", resolved)
	moved, begin := move(t, n.peer, "eth0"), time.Now()
	for _, address := range []string{peer4, peer6} {
		becomes(t, r, address, "at its new MAC", at(moved))
		t.Logf("%s was found at its new MAC after %v", address, time.Since(begin))
		// Routes of the interfaces that were made just now may come before the first MAC.
		sinceResolved := func() []Hop {
			reports := n.reports(address)
			return reports[max(slices.IndexFunc(reports, resolved), 0):]
		}
		eventually(t, "the change is reported", func() bool { return len(sinceResolved()) == 2 })
		if reports := sinceResolved(); !reports[0].Resolved || !reports[1].Resolved {
			t.Errorf("hops of %s are reported as %+v", address, reports)
		}
	}
}

// One that says so is found at once, without a probe.
func TestNeighbourAnnouncesMAC(t *testing.T) {
	n := newNetwork(t)
	n.setAtPeer(t, "ipv4/conf/eth0/arp_notify", "1")
	n.setAtPeer(t, "ipv6/conf/eth0/ndisc_notify", "1")
	r := n.resolver(t, never)
	watchAll(r, peer4, peer6)
	becomes(t, r, peer4, "resolved", resolved)
	becomes(t, r, peer6, "resolved", resolved)
	moved := move(t, n.peer, "eth0")
	becomes(t, r, peer4, "at its new MAC", at(moved))
	becomes(t, r, peer6, "at its new MAC", at(moved))
}

func TestNeighbourGoesAndComes(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	watchAll(r, peer4)
	becomes(t, r, peer4, "resolved", resolved)
	must(t, n.peer.AddrDel(link(t, n.peer, "eth0"), address(t, peer4+"/24")))
	begin := time.Now()
	becomes(t, r, peer4, "unresolved", unresolved("no answer to ARP for 192.0.2.2 on eth0"))
	t.Logf("unresolved after %v", time.Since(begin))
	must(t, n.peer.AddrAdd(link(t, n.peer, "eth0"), address(t, peer4+"/24")))
	becomes(t, r, peer4, "resolved", resolved)
}

// A neighbour that was just asked for is pending until it has had the time to answer.
func TestNeighbourIsPending(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	for _, address := range []string{"192.0.2.77", "2001:db8::77"} {
		if hop := r.Watch(netip.MustParseAddr(address)); !hop.Pending || hop.Resolved {
			t.Errorf("%s is %+v", address, hop)
		}
		eventually(t, "a report that it does not answer", func() bool {
			reports := n.reports(address)
			return len(reports) > 0 && !reports[len(reports)-1].Pending && !reports[len(reports)-1].Resolved
		})
	}
	if hop := r.Watch(netip.MustParseAddr("203.0.113.1")); hop.Pending {
		t.Errorf("an address without a route is %+v", hop)
	}
}

// An entry that somebody deletes is looked for again.
func TestNeighbourIsFlushed(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, never)
	watchAll(r, peer4)
	becomes(t, r, peer4, "resolved", resolved)
	must(t, n.host.NeighDel(n.neighbour(t, peer4)))
	eventually(t, "the neighbour is known again", func() bool {
		entry := n.neighbour(t, peer4)
		return entry != nil && entry.State&valid != 0
	})
	becomes(t, r, peer4, "resolved", resolved)
}

// A neighbour that is configured by hand is used as it is, and stays so.
func TestPermanentNeighbour(t *testing.T) {
	n := newNetwork(t)
	byHand := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	n.setNeighbour(t, peer4, netlink.Neigh{HardwareAddr: byHand, State: netlink.NUD_PERMANENT})
	r := n.resolver(t, probeInterval/10)
	watchAll(r, peer4)
	becomes(t, r, peer4, "where it is configured", at(byHand))
	time.Sleep(3 * probeInterval / 10) // it is not to be probed: only time can tell
	r.Unwatch(netip.MustParseAddr(peer4))
	if entry := n.neighbour(t, peer4); entry == nil || entry.State != netlink.NUD_PERMANENT || entry.HardwareAddr.String() != byHand.String() {
		t.Errorf("the neighbour is now %+v", entry)
	}
}

// A neighbour that somebody else has the kernel keep is left to them.
func TestManagedNeighbour(t *testing.T) {
	n := newNetwork(t)
	n.setNeighbour(t, peer4, netlink.Neigh{FlagsExt: netlink.NTF_EXT_MANAGED})
	r := n.resolver(t, probeInterval/10)
	watchAll(r, peer4)
	becomes(t, r, peer4, "resolved", resolved)
	time.Sleep(3 * probeInterval / 10) // it is not to be probed: only time can tell
	r.Unwatch(netip.MustParseAddr(peer4))
	if entry := n.neighbour(t, peer4); entry == nil || entry.FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
		t.Errorf("the neighbour is now %+v", entry)
	}
}

// Neighbours are kept while a watched address needs them, and no longer.
func TestNeighboursAreReleased(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "198.51.100.0/24", via(peer4))
	r := n.resolver(t, probeInterval)
	watchAll(r, far4, "198.51.100.8")
	becomes(t, r, far4, "resolved", resolved)
	if !n.learned(t, peer4) {
		t.Error("the neighbour is not kept")
	}
	r.Unwatch(netip.MustParseAddr("198.51.100.8"))
	if !n.learned(t, peer4) {
		t.Error("the neighbour is not kept, which another address needs")
	}
	n.route(t, "198.51.100.0/24", via("192.0.3.2"))
	becomes(t, r, far4, "through eth1", through("eth1"))
	if n.learned(t, peer4) {
		t.Error("the neighbour is kept, although the route is another")
	}
	if n.neighbour(t, peer4) == nil {
		t.Error("the neighbour is forgotten, which the host may use itself")
	}
}

// What was asked for and never found is not left behind.
func TestUnansweredNeighbourIsReleased(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	watchAll(r, "192.0.2.77")
	r.Unwatch(netip.MustParseAddr("192.0.2.77"))
	if entry := n.neighbour(t, "192.0.2.77"); entry != nil {
		t.Errorf("there is a neighbour %+v", entry)
	}
}

// The neighbours of a resolver that ended, perhaps with the process, are those of the next.
func TestNeighboursAreTakenOver(t *testing.T) {
	n := newNetwork(t)
	first := n.resolver(t, probeInterval)
	watchAll(first, peer4)
	becomes(t, first, peer4, "resolved", resolved)
	first.Close()
	if !n.learned(t, peer4) {
		t.Error("the neighbour is not kept after the end")
	}
	second := n.resolver(t, probeInterval)
	watchAll(second, peer4)
	moved := move(t, n.peer, "eth0")
	becomes(t, second, peer4, "at its new MAC", at(moved))
	second.Unwatch(netip.MustParseAddr(peer4))
	if n.learned(t, peer4) {
		t.Error("the neighbour is still kept")
	}
}
