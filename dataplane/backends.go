package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/sluicelb/sluice/dataplane/nexthop"
)

// vlanAD is VLAN_AD in headers/sluice.h.
const vlanAD = 0x8000

// hopUsers is a next hop and the backends whose records hold a copy of it.
type hopUsers struct {
	hop     *nexthop.Hop
	indices []uint32 // few, mostly one: those of a server for several services
}

// find returns a backend of a service. d.mu must be held.
func (d *Dataplane) find(key ServiceKey, backend netip.AddrPort) (*backendState, error) {
	if st := d.state[key]; st != nil && st.backends[backend] != nil {
		return st.backends[backend], nil
	}
	return nil, fmt.Errorf("%s has no backend %s", key, backend)
}

// addBackends puts the backends of s that st lacks into the kernel, where nothing names them yet. Returns
// their endpoints. d.mu must be held.
func (d *Dataplane) addBackends(st *serviceState, s Service) ([]netip.AddrPort, error) {
	var added []netip.AddrPort
	for _, b := range s.Backends {
		endpoint := b.endpoint()
		if st.backends[endpoint] != nil {
			continue
		}
		index, ok := d.takeIndex(d.freeIndex.backends)
		if !ok {
			for _, endpoint := range added {
				d.removeBackend(st, endpoint)
			}
			return nil, fmt.Errorf("%w: %d backends (limits.backends)", ErrFull, d.options.Limits.Backends)
		}
		st.backends[endpoint] = &backendState{index: index, down: true}
		d.loads.items[index] = balancerLoad{}
		added = append(added, endpoint)
		d.resetCounters(index)
		d.describe(st, endpoint, index)
	}
	return added, nil
}

// describe writes the record of a backend whose index was free.
func (d *Dataplane) describe(st *serviceState, endpoint netip.AddrPort, index uint32) {
	record := balancerBackend{
		Address:    words(endpoint.Addr()),
		Port:       network16(endpoint.Port()),
		Service:    uint16(st.index),
		Generation: d.backends.items[index].Generation + 1,
		Flags:      balancerBackendFlagsBACKEND_USED,
	}
	if endpoint.Addr().Is6() {
		record.Flags |= balancerBackendFlagsBACKEND_IPV6
	}
	d.backends.items[index] = record
	d.useHop(endpoint.Addr(), index, d.resolver.Watch)
}

// endpoint is the address and port that the record holds.
func (b *balancerBackend) endpoint() netip.AddrPort {
	ipv6 := b.Flags&balancerBackendFlagsBACKEND_IPV6 != 0
	return netip.AddrPortFrom(addressOf(b.Address, ipv6), network16(b.Port))
}

// removeBackend takes a backend out of st, after no table names it any more. Its flows are unknown at
// once; its index is free after a grace period. d.mu must be held.
func (d *Dataplane) removeBackend(st *serviceState, endpoint netip.AddrPort) {
	index := st.backends[endpoint].index
	delete(st.backends, endpoint)
	d.setServing(index, false)
	d.retire(func() {
		d.leaveHop(endpoint.Addr(), index)
		d.backends.items[index] = balancerBackend{Generation: d.backends.items[index].Generation}
		d.freeIndex.backends.release(index)
	})
}

// setServing says whether the flows of a backend stay with it.
func (d *Dataplane) setServing(index uint32, serving bool) {
	record := &d.backends.items[index]
	if serving {
		record.Flags |= balancerBackendFlagsBACKEND_SERVING
	} else {
		record.Flags &^= balancerBackendFlagsBACKEND_SERVING
	}
}

// useHop has the record of a backend follow the next hop of its address, which watch returns. d.mu must be held.
func (d *Dataplane) useHop(address netip.Addr, index uint32, watch func(netip.Addr) *nexthop.Hop) {
	users := d.hops[address]
	if users == nil {
		users = &hopUsers{hop: watch(address)}
		d.hops[address] = users
	}
	users.indices = append(users.indices, index)
	if users.hop.Pending {
		d.followHop(users, watch(address)) // nobody has looked, perhaps
		return
	}
	d.writeHop(index, users.hop)
}

func (d *Dataplane) leaveHop(address netip.Addr, index uint32) {
	users := d.hops[address]
	users.indices = slices.DeleteFunc(users.indices, func(other uint32) bool { return other == index })
	if len(users.indices) == 0 {
		delete(d.hops, address)
		d.resolver.Unwatch(address)
	}
}

// hopChanged is called by the resolver.
func (d *Dataplane) hopChanged(address netip.Addr, hop *nexthop.Hop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if users := d.hops[address]; users != nil {
		d.followHop(users, hop)
	}
}

// followHop has the records of backends have another next hop. d.mu must be held.
func (d *Dataplane) followHop(users *hopUsers, hop *nexthop.Hop) {
	users.hop = hop
	for _, index := range users.indices {
		d.writeHop(index, hop)
	}
}

// hopOf returns the next hop of a backend's address, looked up if nobody has. d.mu must be held.
func (d *Dataplane) hopOf(address netip.Addr) NextHop {
	users := d.hops[address]
	if users.hop.Pending {
		d.followHop(users, d.resolver.Watch(address))
	}
	return *users.hop
}

// writeHop copies a next hop into the record of a backend, in stores of 8 bytes, the one with the interface
// last: a record without one gets it when all else is there. A neighbour's new MAC is one store. Another
// interface takes three: while they are made, a packet may leave by the old interface with the new MAC, which
// its switch drops. While the neighbour has not had the time to answer, the record keeps the hop that it has: so
// does one that was adopted, or whose route has changed.
func (d *Dataplane) writeHop(index uint32, hop *nexthop.Hop) {
	if hop.Pending {
		return
	}
	record := &d.backends.items[index]
	updated := *record
	updated.Hop.Ifindex = 0
	if hop.Resolved {
		d.openDevice(hop.Index)
		copy(updated.Hop.Mac[:], hop.MAC)
		copy(updated.Hop.LocalMac[:], hop.LocalMAC)
		updated.Hop.Mtu = uint16(min(hop.MTU, 65535))
		updated.Hop.Vlan, updated.Hop.InnerVlan = 0, 0
		if len(hop.VLANs) > 0 {
			updated.Hop.Vlan = hop.VLANs[0]
		}
		if len(hop.VLANs) > 1 {
			updated.Hop.Vlan |= vlanAD // as the standard has it, IEEE 802.1Q-2018 section 9.5
			updated.Hop.InnerVlan = hop.VLANs[1]
		}
		updated.Hop.Ifindex = uint32(hop.Index)
		updated.Source = words(hop.Source)
	}
	if updated.Hop.Ifindex != record.Hop.Ifindex {
		delete(d.opened, int(record.Hop.Ifindex)) // it is gone, perhaps
	}
	const stores = int(unsafe.Offsetof(record.Port)) / 8 // the hop and both addresses
	from, to := (*[stores]uint64)(unsafe.Pointer(&updated)), (*[stores]uint64)(unsafe.Pointer(record))
	const last = int(unsafe.Offsetof(record.Hop.Ifindex)) / 8
	for i := range stores {
		if i != last {
			atomic.StoreUint64(&to[i], from[i])
		}
	}
	atomic.StoreUint64(&to[last], from[last])
}

// openDevice lets packets leave by an interface. The kernel takes it out again when it removes the
// interface. An interface that is open stays untouched: replacing it would drop the packets that come just
// then (dev_map_hash_update_elem in kernel/bpf/devmap.c takes the old one out first).
func (d *Dataplane) openDevice(ifindex int) {
	if d.opened[ifindex] {
		return
	}
	err := d.objects.Devices.Update(uint32(ifindex), uint32(ifindex), ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		d.log.Error("packets cannot leave by the interface", "ifindex", ifindex, "error", err)
		return
	}
	d.opened[ifindex] = true
}
