package packetcost

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
)

// Addresses for documentation (RFC 5737, RFC 3849), those of IPv4 backends for benchmarks (RFC 2544).
var (
	services = map[Family]netip.AddrPort{
		IPv4: netip.MustParseAddrPort("192.0.2.10:80"), IPv6: netip.MustParseAddrPort("[2001:db8::10]:80"),
	}
	backendNets = map[Family]netip.Prefix{
		IPv4: netip.MustParsePrefix("198.18.0.0/15"), IPv6: netip.MustParsePrefix("2001:db8:2::/48"),
	}
)

// MaxBackends is how many there can be with the limits of the default.
var MaxBackends = int(dataplane.DefaultLimits.Backends)

// openDataplane opens one that knows no flow yet, with one service, in the network namespace of the calling thread.
func openDataplane(pins string, c Case, backends int) (*dataplane.Dataplane, error) {
	d, err := dataplane.Open(dataplane.Options{PinPath: pins, Limits: dataplane.Limits{Flows: c.flowLimit()}})
	if err != nil {
		return nil, err
	}
	if err := c.serve(d, backends); err != nil {
		return nil, errors.Join(err, closeDataplane(d, pins))
	}
	return d, nil
}

// closeDataplane takes it out of the kernel, in the same namespace. It may be nil.
func closeDataplane(d *dataplane.Dataplane, pins string) error {
	if d == nil {
		return nil
	}
	return errors.Join(d.Close(), dataplane.Unload(pins))
}

// flowLimit is how many flows are remembered at most: all that there are, with what the kernel sets aside. A flood finds
// the usual limit.
func (c Case) flowLimit() uint32 {
	limit := dataplane.DefaultLimits.Flows
	if c.Traffic != generator.SYN {
		limit = max(limit, uint32(c.Flows+c.Flows/4))
	}
	return limit
}

// serve adds the service and waits until its backends are reachable.
func (c Case) serve(d *dataplane.Dataplane, backends int) error {
	address, next := services[c.Family], backendNets[c.Family].Addr()
	service := dataplane.Service{
		ServiceKey: dataplane.ServiceKey{
			Address: address.Addr(), Port: address.Port(), Protocol: dataplane.Protocol(c.Traffic.Protocol()),
		},
		Mode:     c.Mode,
		Tracking: c.Tracking,
	}
	for range backends {
		next = next.Next()
		service.Backends = append(service.Backends, dataplane.Backend{Address: next, Port: address.Port(), Weight: 100})
	}
	if err := d.SetService(service); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := c.reachable(d, service.ServiceKey)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// patience is how long neighbours have to answer the question for their MAC address.
const patience = 3 * time.Second

// reachable wants that all backends have a next hop.
func (c Case) reachable(d *dataplane.Dataplane, key dataplane.ServiceKey) error {
	status, _ := d.ServiceStatus(key)
	for _, b := range status.Backends {
		if !b.NextHop.Resolved {
			return fmt.Errorf("backend %s has no next hop (%s): all of %s must be routed to a neighbour that answers",
				b.Address, b.NextHop.Reason, backendNets[c.Family])
		}
	}
	return nil
}
