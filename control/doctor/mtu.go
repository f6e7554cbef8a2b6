package doctor

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

// ethernetMTU is that of Ethernet, and so of most clients (RFC 894).
const ethernetMTU = 1500

// checkMTU wants packets that clients send at full size to fit on the way to every backend.
func checkMTU(p *patient) ([]Finding, error) {
	client, err := p.clientMTU()
	if err != nil {
		return nil, err
	}
	largest := make(map[netip.Addr]place) // the place of each backend with the largest packets
	for _, at := range p.places() {
		before, seen := largest[at.backend.Address]
		if at.backend.NextHop.Resolved && (!seen || at.overhead() > before.overhead()) {
			largest[at.backend.Address] = at
		}
	}
	var findings []Finding
	var fitting []place
	for _, at := range p.places() {
		if largest[at.backend.Address] != at {
			continue
		}
		if f := at.judgeMTU(client); f != nil {
			findings = append(findings, *f)
		} else {
			fitting = append(fitting, at)
		}
	}
	return append(findings, tryMTU(p, fitting, client)...), nil
}

// clientMTU is that of the interfaces that no backend is reached by; with a single one, which may be wider for
// the backends' sake, that of Ethernet.
func (p *patient) clientMTU() (int, error) {
	links, err := p.links()
	toBackends := make(map[string]bool)
	for _, at := range p.places() {
		toBackends[at.backend.NextHop.Interface] = true
	}
	clients, widest := 0, 0
	for _, link := range links {
		widest = max(widest, link.Attrs().MTU)
		if !toBackends[link.Attrs().Name] {
			clients = max(clients, link.Attrs().MTU)
		}
	}
	if clients == 0 {
		clients = min(widest, ethernetMTU)
	}
	return clients, err
}

// judgeMTU compares the way's first link and its route with what clients send.
func (p place) judgeMTU(client int) *Finding {
	hop, need := p.backend.NextHop, client+p.overhead()
	if hop.MTU >= need {
		return nil
	}
	more := ""
	if p.overhead() > 0 {
		more = fmt.Sprintf(" and %d of %s", p.overhead(), p.service.Mode)
	}
	return &Finding{
		Severity: Warning, Object: p.String(), Command: p.widen(need),
		Problem: fmt.Sprintf("packets of %d bytes from clients%s do not fit through the %d bytes to it: clients have to send smaller ones, or every end of that link has to take %d",
			client, more, hop.MTU, need),
	}
}

// widen is the command that makes room for packets of so many bytes: on the interface, or on the route where
// that is narrower.
func (p place) widen(need int) string {
	hop, address := p.backend.NextHop, p.backend.Address
	link, err := netlink.LinkByName(hop.Interface)
	if err != nil || link.Attrs().MTU < need {
		return fmt.Sprintf("ip link set dev %s mtu %d", hop.Interface, need)
	}
	via := ""
	if hop.Gateway.IsValid() {
		via = " via " + hop.Gateway.String()
	}
	prefix := netip.PrefixFrom(address, address.BitLen()).String()
	routes, err := netlink.RouteGetWithOptions(address.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err == nil && len(routes) > 0 && routes[0].Dst != nil {
		prefix = routes[0].Dst.String()
	}
	return fmt.Sprintf("ip route change %s%s dev %s mtu %d", prefix, via, hop.Interface, need)
}

// tryMTU sends packets of full size to backends, for there may be narrower links beyond the first.
func tryMTU(p *patient, places []place, client int) []Finding {
	found := make([]*Finding, len(places))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, at := range places {
		group.Go(func() error {
			if size := client + at.overhead(); swallows(p.ctx, at.backend.Address, size) {
				found[i] = &Finding{
					Severity: Warning, Object: at.String(), Command: fmt.Sprintf("tracepath -n %s", at.backend.Address),
					Problem: fmt.Sprintf("small packets reach it and packets of %d bytes do not: a link on the way, or its own, is narrower than that", size),
				}
			}
			return nil
		})
	}
	_ = group.Wait() // nothing fails
	var findings []Finding
	for _, f := range found {
		if f != nil {
			findings = append(findings, *f)
		}
	}
	return findings
}
