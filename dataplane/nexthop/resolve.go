package nexthop

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ethernetAddress is the length of a MAC address in bytes.
const ethernetAddress = 6

// route asks the kernel for the way to an address, up to its neighbour. The second result is that
// neighbour, zero when there is no way. r.mu must be held.
func (r *Resolver) route(address netip.Addr) (Hop, neighbourKey) {
	unresolved := func(format string, arguments ...any) (Hop, neighbourKey) {
		return Hop{Reason: fmt.Sprintf(format, arguments...)}, neighbourKey{}
	}
	routes, err := r.handle.RouteGet(address.AsSlice())
	if err != nil || len(routes) == 0 {
		return unresolved("%s", routeError(address, err))
	}
	route := routes[0]
	switch route.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL:
		return unresolved("%s is an address of this host", address)
	default:
		return unresolved("%s is no unicast address", address)
	}
	hop := Hop{Gateway: gateway(route), MTU: route.MTU}
	if source, ok := netip.AddrFromSlice(route.Src); ok {
		hop.Source = source.Unmap()
	}
	if reason := r.describeLink(&hop, route.LinkIndex); reason != "" {
		return unresolved("%s", reason)
	}
	via := neighbourKey{link: route.LinkIndex, address: address.Unmap()}
	if hop.Gateway.IsValid() {
		via.address = hop.Gateway
	}
	return hop, via
}

// routeError says why there is no route (fib_props in net/ipv4/fib_semantics.c, and the same for IPv6).
func routeError(address netip.Addr, err error) string {
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Sprintf("the route to %s is a blackhole", address)
	case errors.Is(err, unix.EHOSTUNREACH):
		return fmt.Sprintf("the route to %s is unreachable", address)
	case errors.Is(err, unix.EACCES):
		return fmt.Sprintf("the route to %s is prohibited", address)
	case errors.Is(err, unix.ENETUNREACH), err == nil:
		return fmt.Sprintf("no route to %s", address)
	default:
		return fmt.Sprintf("no route to %s: %v", address, err)
	}
}

// gateway returns the router of a route, which for IPv4 may be an IPv6 one (RFC 5549).
func gateway(route netlink.Route) netip.Addr {
	ip := route.Gw
	if via, ok := route.Via.(*netlink.Via); ok && len(ip) == 0 {
		ip = via.Addr
	}
	address, _ := netip.AddrFromSlice(ip)
	return address.Unmap()
}

// describeLink fills in what the interface decides. Returns why it cannot be used, or nothing.
func (r *Resolver) describeLink(hop *Hop, index int) string {
	link, reason := r.link(index)
	if reason != "" {
		return reason
	}
	attrs := link.Attrs()
	hop.Interface, hop.Index, hop.LocalMAC = attrs.Name, index, attrs.HardwareAddr
	if hop.MTU == 0 || hop.MTU > attrs.MTU {
		hop.MTU = attrs.MTU
	}
	if len(attrs.HardwareAddr) != ethernetAddress {
		return fmt.Sprintf("interface %s has no Ethernet address", attrs.Name)
	}
	if link, reason = r.describeVLANs(hop, link); reason != "" {
		return reason
	}
	if kind, ok := deaf[link.Type()]; ok {
		return fmt.Sprintf("interface %s is %s, which XDP cannot send through: route to the interface below it", link.Attrs().Name, kind)
	}
	return ""
}

// deaf are the kinds of Ethernet interfaces that do not take frames from native XDP: their drivers have no
// ndo_xdp_xmit, so that the kernel would drop what is redirected there, and Sluice would not know.
var deaf = map[string]string{
	"bridge": "a bridge", "dummy": "a dummy", "geneve": "a Geneve tunnel", "ipvlan": "an IPVLAN", "macsec": "a MACsec interface",
	"macvlan": "a MACVLAN", "netkit": "a netkit", "team": "a team", "vrf": "a VRF", "vxlan": "a VXLAN",
}

// describeVLANs finds the interface below any VLANs, and their tags. Returns why they cannot be used, or
// nothing.
func (r *Resolver) describeVLANs(hop *Hop, link netlink.Link) (netlink.Link, string) {
	var protocols []netlink.VlanProtocol
	for {
		vlan, ok := link.(*netlink.Vlan)
		if !ok {
			break
		}
		if vlan.NetNsID >= 0 {
			return nil, fmt.Sprintf("interface %s belongs to one in another network namespace", vlan.Name)
		}
		hop.VLANs = append([]uint16{uint16(vlan.VlanId)}, hop.VLANs...)
		protocols = append([]netlink.VlanProtocol{vlan.VlanProtocol}, protocols...)
		hop.Index = vlan.ParentIndex
		var reason string
		if link, reason = r.link(vlan.ParentIndex); reason != "" {
			return nil, reason
		}
	}
	return link, tagsError(hop.Interface, protocols)
}

// tagsError says why frames cannot have the tags, or nothing. protocols are the outer one's first.
func tagsError(name string, protocols []netlink.VlanProtocol) string {
	const outer, inner = netlink.VLAN_PROTOCOL_8021AD, netlink.VLAN_PROTOCOL_8021Q
	switch {
	case len(protocols) > 2:
		return fmt.Sprintf("interface %s has more than two VLAN tags", name)
	case len(protocols) == 2 && (protocols[0] != outer || protocols[1] != inner):
		return fmt.Sprintf("interface %s has other tags than 802.1Q inside 802.1ad", name)
	case len(protocols) == 1 && protocols[0] != inner:
		return fmt.Sprintf("interface %s has another tag than 802.1Q", name)
	}
	return ""
}

// link returns an interface that is up, or why there is none.
func (r *Resolver) link(index int) (netlink.Link, string) {
	link := r.links[index]
	if link == nil {
		var err error
		if link, err = r.handle.LinkByIndex(index); err != nil {
			return nil, fmt.Sprintf("interface %d is gone", index)
		}
		r.links[index] = link
	}
	// Running is operational: one without a carrier is not (RFC 2863, netif_oper_up).
	const up = unix.IFF_UP | unix.IFF_RUNNING
	if attrs := link.Attrs(); attrs.RawFlags&up != up {
		return nil, fmt.Sprintf("interface %s is down", attrs.Name)
	}
	return link, ""
}
