package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/sluicelb/sluice/dataplane/nexthop"
)

// target is where packets go, and how they leave.
type target struct {
	destination netip.AddrPort
	device      string
	mac         net.HardwareAddr // of the balancer, or of the router to it
	source      netip.Addr       // of the first flow
}

// smallest is the shortest frame in bytes: Ethernet's, or what pktgen's own 16 bytes behind the UDP header
// (struct pktgen_hdr in the kernel's net/core/pktgen.c) make it.
func (t target) smallest() int {
	if t.destination.Addr().Is6() {
		return 14 + 40 + 8 + 16
	}
	return 60
}

// resolveWithin is how long the next hop may take to answer.
const resolveWithin = 3 * time.Second

// complete fills in what was not given, from the route to the destination.
func (t *target) complete(ctx context.Context) error {
	if t.device != "" {
		if _, err := net.InterfaceByName(t.device); err != nil {
			return fmt.Errorf("--interface: there is no interface %s; `ip link` names them", t.device)
		}
		if t.mac != nil && t.source.IsValid() {
			return nil
		}
	}
	hop, err := resolve(ctx, t.destination.Addr())
	if err != nil {
		return err
	}
	if t.device == "" {
		t.device = hop.Interface
	}
	if t.device != hop.Interface && t.mac == nil {
		return fmt.Errorf("--interface: the route to %s is through %s; give --destination-mac to send through %s", t.destination.Addr(), hop.Interface, t.device)
	}
	if t.mac == nil {
		if !hop.Resolved {
			return fmt.Errorf("no MAC address for %s: %s; give --destination-mac, or `ping` the balancer to see what is wrong", t.destination.Addr(), hop.Reason)
		}
		t.mac = hop.MAC
	}
	if !t.source.IsValid() {
		t.source = hop.Source
	}
	if t.device == "" || !t.source.IsValid() {
		return fmt.Errorf("no route to %s: %s; add one, or give --interface, --destination-mac and --source", t.destination.Addr(), hop.Reason)
	}
	return nil
}

// resolve waits for the next hop's answer.
func resolve(ctx context.Context, address netip.Addr) (nexthop.Hop, error) {
	changes := make(chan *nexthop.Hop, 16)
	resolver, err := nexthop.NewResolver(slog.New(slog.DiscardHandler), func(_ netip.Addr, hop *nexthop.Hop) {
		select {
		case changes <- hop:
		default: // nobody waits any more
		}
	})
	if err != nil {
		return nexthop.Hop{}, err
	}
	defer resolver.Close()
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	hop := resolver.Watch(address)
	for hop.Pending {
		select {
		case hop = <-changes:
		case <-ctx.Done():
			return *hop, nil
		}
	}
	return *hop, nil
}
