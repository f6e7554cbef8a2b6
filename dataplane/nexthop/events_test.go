package nexthop

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages that the kernel could not deliver are made up for by reading all again.
func TestLostMessages(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, never)
	n.route(t, "198.51.100.0/24", via(peer4))
	watchAll(r, peer4, far4)
	becomes(t, r, far4, "resolved", resolved)

	r.mu.Lock() // so that none is read
	must(t, r.events.SetReceiveBufferSize(1, true))
	for i := range 200 {
		n.setNeighbour(t, fmt.Sprintf("192.0.2.%d", 10+i), netlink.Neigh{HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}, State: netlink.NUD_STALE})
	}
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	n.setNeighbour(t, peer4, netlink.Neigh{HardwareAddr: moved, State: netlink.NUD_PERMANENT})
	n.route(t, "198.51.100.0/24", func(r *netlink.Route) { r.Type = unix.RTN_PROHIBIT })
	r.mu.Unlock()

	becomes(t, r, peer4, "at its new MAC", at(moved))
	becomes(t, r, far4, "prohibited", unresolved("prohibited"))
}

func TestSubscriptionFails(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, never)
	watchAll(r, far4)
	r.mu.Lock()
	r.events.Close()
	r.mu.Unlock()
	n.route(t, "198.51.100.0/24", via(peer4))
	becomes(t, r, far4, "resolved", resolved)
	n.route(t, "198.51.100.0/24", via("192.0.3.2"))
	becomes(t, r, far4, "through eth1", through("eth1"))
}

// A message that comes while the neighbours are read is not undone by what was read before it.
func TestMessageWhileReading(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, never)
	watchAll(r, peer4, "192.0.2.50")
	becomes(t, r, peer4, "resolved", resolved)
	n.setNeighbour(t, "192.0.2.50", netlink.Neigh{HardwareAddr: mac(t, n.peer, "eth0"), State: netlink.NUD_PERMANENT})
	n.setNeighbour(t, "192.0.2.51", netlink.Neigh{HardwareAddr: mac(t, n.peer, "eth0"), State: netlink.NUD_PERMANENT})
	becomes(t, r, "192.0.2.50", "resolved", resolved)

	r.beginTable()
	list, err := n.host.NeighList(0, unix.AF_UNSPEC)
	must(t, err)
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	n.setNeighbour(t, "192.0.2.50", netlink.Neigh{HardwareAddr: moved, State: netlink.NUD_PERMANENT})
	becomes(t, r, "192.0.2.50", "at its new MAC", at(moved))
	must(t, n.host.NeighDel(n.neighbour(t, "192.0.2.51")))
	gone := neighbourKey{link: link(t, n.host, "eth0").Attrs().Index, address: netip.MustParseAddr("192.0.2.51")}
	eventually(t, "the deleted neighbour is gone", func() bool { return !r.knows(gone) })
	r.replaceTable(list)

	r.refresh()
	becomes(t, r, peer4, "still resolved", resolved)
	becomes(t, r, "192.0.2.50", "still at its new MAC", at(moved))
	if r.knows(gone) {
		t.Error("the deleted neighbour is back")
	}
	if !r.knows(neighbourKey{link: gone.link, address: netip.MustParseAddr("192.0.2.50")}) {
		t.Error("the neighbour that changed is forgotten")
	}
}

// knows tells whether the table has a neighbour.
func (r *Resolver) knows(key neighbourKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.table[key]
	return known
}

func TestParseDestination(t *testing.T) {
	for prefix, attribute := range map[string][]byte{
		"198.51.100.0/24": {198, 51, 100, 0},
		"0.0.0.0/0":       nil,
		"::/0":            nil,
		"2001:db8::/32":   net.ParseIP("2001:db8::"),
	} {
		want := netip.MustParsePrefix(prefix)
		message := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: uint8(want.Bits())}}
		if want.Addr().Is6() {
			message.Family = unix.AF_INET6
		}
		data := message.Serialize()
		if attribute != nil {
			data = append(data, nl.NewRtAttr(unix.RTA_DST, attribute).Serialize()...)
		}
		if got, err := parseDestination(data); err != nil || got != want {
			t.Errorf("destination is %v (%v), want %v", got, err, want)
		}
	}
	if got, err := parseDestination([]byte{unix.AF_INET}); err == nil {
		t.Errorf("a cut message is of %v", got)
	}
}
