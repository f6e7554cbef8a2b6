//go:build vm

package nexthop

// These tests need a kernel with VLAN interfaces (8021q), which is not every machine's: `go test -tags vm`.

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// addVLAN makes a VLAN interface, and another at the peer.
func (n *network) addVLAN(t *testing.T, name, parent string, id int, protocol netlink.VlanProtocol, host, peer string) {
	t.Helper()
	for h, address := range map[*netlink.Handle]string{n.host: host, n.peer: peer} {
		err := h.LinkAdd(&netlink.Vlan{
			LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: link(t, h, parent).Attrs().Index},
			VlanId:    id, VlanProtocol: protocol,
		})
		must(t, err)
		up(t, h, name, address)
	}
}

func TestVLAN(t *testing.T) {
	n := newNetwork(t)
	n.addVLAN(t, "eth0.100", "eth0", 100, netlink.VLAN_PROTOCOL_8021Q, "192.0.4.1/24", "192.0.4.2/24")
	n.addVLAN(t, "eth1.200", "eth1", 200, netlink.VLAN_PROTOCOL_8021AD, "192.0.5.1/24", "192.0.5.2/24")
	n.addVLAN(t, "eth1.200.7", "eth1.200", 7, netlink.VLAN_PROTOCOL_8021Q, "192.0.6.1/24", "192.0.6.2/24")
	r := n.resolver(t, probeInterval)
	for _, test := range []struct {
		address, name, below string
		tags                 []uint16
	}{
		{"192.0.4.2", "eth0.100", "eth0", []uint16{100}},
		{"192.0.6.2", "eth1.200.7", "eth1", []uint16{200, 7}},
	} {
		watchAll(r, test.address)
		hop := becomes(t, r, test.address, "resolved", resolved)
		if hop.Interface != test.name || hop.Index != link(t, n.host, test.below).Attrs().Index || !slices.Equal(hop.VLANs, test.tags) ||
			hop.MAC.String() != mac(t, n.peer, test.name).String() || hop.LocalMAC.String() != mac(t, n.host, test.name).String() {
			t.Errorf("hop of %s is %+v", test.address, hop)
		}
	}
	must(t, n.peer.LinkSetDown(link(t, n.peer, "eth0")))
	becomes(t, r, "192.0.4.2", "unresolved", unresolved("eth0.100 is down"))
}
