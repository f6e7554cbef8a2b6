package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkOptions of Connect and Join. The zero value is usable.
type LinkOptions struct {
	MTU        int              // bytes, 0 is 1500
	MAC        net.HardwareAddr // of the first end, of the host that joins; nil is random
	PeerMAC    net.HardwareAddr // of the other end
	Offloading bool             // leaves checksums and segmentation to a device that does not do them either
}

// Connect lays a cable between two hosts and sets both ends up.
//
// Both ends poll (NAPI): frames that the other end's XDP program sends back or redirects arrive. Unless
// told otherwise frames leave as they would on a wire: with complete checksums, at most MTU long.
func (l *Lab) Connect(a *Host, nameA string, b *Host, nameB string, o LinkOptions) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = nameA, o.MAC, o.MTU
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = nameB, o.PeerMAC, uint32(o.MTU)
	veth.PeerNamespace = netlink.NsFd(b.namespace)
	if err := a.netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connecting %s of %s with %s of %s: %w", nameA, a.name, nameB, b.name, err)
	}
	return errors.Join(a.bringUp(nameA, o), b.bringUp(nameB, o))
}

// bringUp sets one end up. GRO comes afterwards: switched on while the link is down, it would not make the
// other end a target of XDP redirection (veth_set_features in the kernel's drivers/net/veth.c).
func (h *Host) bringUp(name string, o LinkOptions) error {
	if err := h.LinkUp(name); err != nil {
		return err
	}
	if err := h.Do(func() error { return setOffloads(name, o.Offloading) }); err != nil {
		return fmt.Errorf("setting the offloads of %s on %s: %w", name, h.name, err)
	}
	return nil
}

// Switch is an Ethernet switch: a bridge in a namespace of its own, whose ports are named after the hosts
// that joined.
type Switch struct {
	*Host
	bridge *netlink.Bridge
}

// Switch adds a switch. It learns addresses, passes VLAN tags on as they are and filters nothing.
func (l *Lab) Switch(name string) (*Switch, error) {
	h, err := l.Host(name)
	if err != nil {
		return nil, err
	}
	for _, protocol := range []string{"iptables", "ip6tables", "arptables"} {
		err := h.Sysctl("net.bridge.bridge-nf-call-"+protocol, "0")
		if err != nil && !errors.Is(err, os.ErrNotExist) { // there only while br_netfilter is loaded
			return nil, err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bridge"
	off := false
	s := &Switch{Host: h, bridge: &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}}
	if err := h.netlink.LinkAdd(s.bridge); err != nil {
		return nil, fmt.Errorf("making the switch %s: %w", name, err)
	}
	return s, h.LinkUp(attrs.Name)
}

// Join connects an interface of a host, which is made, with the switch. A host joins at most once.
func (s *Switch) Join(h *Host, name string, o LinkOptions) error {
	if err := s.lab.Connect(h, name, s.Host, h.name, o); err != nil {
		return err
	}
	return s.change(h.name, func(link netlink.Link) error { return s.netlink.LinkSetMaster(link, s.bridge) })
}

// LinkUp sets an interface up, with the addresses that it was given before.
func (h *Host) LinkUp(name string) error {
	if err := h.change(name, h.netlink.LinkSetUp); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.setAddresses(name, h.addresses[name])
}

// LinkDown sets an interface down. Routes through it are gone, also when it is up again.
func (h *Host) LinkDown(name string) error { return h.change(name, h.netlink.LinkSetDown) }

// SetMAC changes the address of an interface while it is up.
func (h *Host) SetMAC(name string, mac net.HardwareAddr) error {
	return h.change(name, func(link netlink.Link) error { return h.netlink.LinkSetHardwareAddr(link, mac) })
}

// Addr gives addresses such as "192.0.2.1/24" and "2001:db8::1/64" to an interface. They are usable at once.
func (h *Host) Addr(name string, prefixes ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.setAddresses(name, prefixes); err != nil {
		return err
	}
	h.addresses[name] = append(h.addresses[name], prefixes...)
	return nil
}

// setAddresses adds addresses that may be there. The kernel drops those of IPv6 when a link goes down, and
// when told to keep them sometimes forgets that they are its own (6.18).
func (h *Host) setAddresses(name string, prefixes []string) error {
	return h.change(name, func(link netlink.Link) error {
		for _, text := range prefixes {
			address, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if address.IP.To4() == nil {
				address.Flags = unix.IFA_F_NODAD
			}
			if err := h.netlink.AddrReplace(link, address); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	})
}

// Route sends what is for a prefix, such as "192.0.2.0/24" or "::/0", by way of a router that is directly
// connected. It replaces the route for the same prefix.
func (h *Host) Route(prefix, via string) error {
	destination, err := netip.ParsePrefix(prefix)
	if err == nil {
		err = h.netlink.RouteReplace(&netlink.Route{
			Dst: &net.IPNet{
				IP:   destination.Masked().Addr().AsSlice(),
				Mask: net.CIDRMask(destination.Bits(), destination.Addr().BitLen()),
			},
			Gw: net.ParseIP(via),
		})
	}
	if err != nil {
		return fmt.Errorf("routing %s via %s on %s: %w", prefix, via, h.name, err)
	}
	return nil
}

// change finds an interface and changes it.
func (h *Host) change(name string, f func(netlink.Link) error) error {
	link, err := h.netlink.LinkByName(name)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", name, h.name, err)
	}
	return nil
}
