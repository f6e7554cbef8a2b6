package nexthop

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// links are the interfaces read so far in one round, by index.
type links map[int]netlink.Link

// resolve asks the kernel for the way to an address. The second result is the neighbour that the way
// depends on, zero when it fails before. r.mu must be held.
func (r *Resolver) resolve(address netip.Addr, known links) (Hop, neighbourKey) {
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
	if reason := r.describeLink(&hop, route.LinkIndex, known); reason != "" {
		return unresolved("%s", reason)
	}
	via := neighbourKey{link: route.LinkIndex, address: address}
	if hop.Gateway.IsValid() {
		via.address = hop.Gateway
	}
	return r.describeNeighbour(hop, via), via
}

// routeError says why there is no route (ip_route_output_key in net/ipv4/route.c).
func routeError(address netip.Addr, err error) string {
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Sprintf("the route to %s is a blackhole", address)
	case errors.Is(err, unix.EACCES):
		return fmt.Sprintf("the route to %s is prohibited", address)
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), err == nil:
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
func (r *Resolver) describeLink(hop *Hop, index int, known links) string {
	link, reason := r.link(index, known)
	if reason != "" {
		return reason
	}
	attrs := link.Attrs()
	hop.Interface, hop.Index, hop.LocalMAC = attrs.Name, index, attrs.HardwareAddr
	if hop.MTU == 0 || hop.MTU > attrs.MTU {
		hop.MTU = attrs.MTU
	}
	if len(attrs.HardwareAddr) != 6 {
		return fmt.Sprintf("interface %s has no Ethernet address", attrs.Name)
	}
	for link.Type() == "vlan" {
		vlan := link.(*netlink.Vlan)
		hop.VLANs = append([]uint16{uint16(vlan.VlanId)}, hop.VLANs...)
		hop.Index = vlan.ParentIndex
		if len(hop.VLANs) > 2 {
			return fmt.Sprintf("interface %s has more than two VLAN tags", attrs.Name)
		}
		if link, reason = r.link(vlan.ParentIndex, known); reason != "" {
			return reason
		}
	}
	if link.Type() == "bridge" {
		return fmt.Sprintf("interface %s is a bridge, which XDP cannot send through: route to the interface below it", link.Attrs().Name)
	}
	return ""
}

// link returns an interface that is up, or why there is none.
func (r *Resolver) link(index int, known links) (netlink.Link, string) {
	link := known[index]
	if link == nil {
		var err error
		if link, err = r.handle.LinkByIndex(index); err != nil {
			return nil, fmt.Sprintf("interface %d is gone", index)
		}
		known[index] = link
	}
	attrs := link.Attrs()
	down := attrs.OperState == netlink.OperDown || attrs.OperState == netlink.OperLowerLayerDown || attrs.OperState == netlink.OperNotPresent
	if down || attrs.RawFlags&unix.IFF_UP == 0 {
		return nil, fmt.Sprintf("interface %s is down", attrs.Name)
	}
	return link, ""
}

// Neighbours in these states have a MAC that may be used (include/net/neighbour.h, NUD_VALID).
const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE |
	netlink.NUD_STALE | netlink.NUD_DELAY

// describeNeighbour fills in the MAC, and has the kernel look for it and keep it fresh.
func (r *Resolver) describeNeighbour(hop Hop, via neighbourKey) Hop {
	neighbour := r.neighbours[via]
	if neighbour.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 && neighbour.FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
		r.keep(via)
	}
	if neighbour.State&valid != 0 && len(neighbour.HardwareAddr) == 6 {
		hop.Resolved, hop.MAC = true, neighbour.HardwareAddr
		return hop
	}
	question := "ARP"
	if via.address.Is6() {
		question = "neighbour discovery"
	}
	hop.Reason = fmt.Sprintf("no answer to %s for %s on %s", question, via.address, hop.Interface)
	return hop
}

// keep makes a neighbour a managed one (NTF_EXT_MANAGED, Linux 5.16): packets sent by XDP do not touch the
// kernel's neighbours, so nothing else would find it or notice that its MAC changed. The kernel probes a
// managed one when it has not heard of it for its reachable time (15 to 45 s by default).
func (r *Resolver) keep(via neighbourKey) {
	set := r.handle.NeighSet
	if _, known := r.neighbours[via]; !known {
		// One that was made just now may be permanent, which it would not stay: its message is on the way.
		set = r.handle.NeighAdd
	}
	err := set(&netlink.Neigh{
		LinkIndex: via.link, IP: via.address.AsSlice(), Family: family(via.address),
		FlagsExt: netlink.NTF_EXT_MANAGED,
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		r.log.Warn("the kernel will not look for a neighbour", "address", via.address, "error", err)
	}
}

// release undoes keep.
func (r *Resolver) release(via neighbourKey) {
	if r.neighbours[via].FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
		return
	}
	err := r.handle.NeighDel(&netlink.Neigh{LinkIndex: via.link, IP: via.address.AsSlice(), Family: family(via.address)})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		r.log.Warn("the kernel will not forget a neighbour", "address", via.address, "error", err)
	}
}

func family(address netip.Addr) int {
	if address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
