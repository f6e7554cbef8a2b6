package dataplane

import (
	"net/netip"

	"github.com/sluicelb/sluice/dataplane/nexthop"
)

// noResolver is the resolver of a private dataplane.
type noResolver struct{}

func (noResolver) Watch(netip.Addr) *nexthop.Hop                { return &nexthop.Hop{Reason: "not looked for"} }
func (n noResolver) WatchLater(address netip.Addr) *nexthop.Hop { return n.Watch(address) }
func (noResolver) Unwatch(netip.Addr)                           {}
func (noResolver) Close()                                       {}

func (d *Dataplane) isPrivate() bool { return d.options.PinPath == "" }

// SetNextHop gives a backend of a private dataplane its next hop, which also holds this host's address
// towards the backend. Without an interface packets leave by the one they came in by, and without a local MAC
// from the address that they were sent to.
func (d *Dataplane) SetNextHop(key ServiceKey, backend netip.AddrPort, hop NextHop) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.find(key, backend)
	if err != nil {
		return err
	}
	if hop.Index == 0 {
		hop.Index = loopback
	}
	d.writeHop(b.index, &hop)
	return nil
}
