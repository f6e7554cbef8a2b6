package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// adopt reads from the maps what an earlier process left there, and frees what it was about to add or
// remove when it ended. d.mu must be held.
func (d *Dataplane) adopt() error {
	limits := d.options.Limits
	d.freeIndex.services = newIndices(0, limits.Services)
	d.freeIndex.backends = newIndices(1, limits.Backends)
	d.regions = newRegions(limits.Slots)

	byIndex := d.byIndex
	echoes4, err := adoptServices(d, d.objects.Services4, byIndex, func(k balancerServiceKey4) ServiceKey {
		return serviceKey([4]uint32{k.Address}, false, k.Port, k.Protocol)
	})
	if err != nil {
		return err
	}
	echoes6, err := adoptServices(d, d.objects.Services6, byIndex, func(k balancerServiceKey6) ServiceKey {
		return serviceKey(k.Address, true, k.Port, k.Protocol)
	})
	if err != nil {
		return err
	}
	for _, address := range append(echoes4, echoes6...) {
		if err := d.ignoreEcho(address); err != nil {
			return err
		}
	}
	if err := d.adoptRules(byIndex); err != nil {
		return fmt.Errorf("adopting source rules: %w", err)
	}
	if err := d.adoptServers(byIndex); err != nil {
		return fmt.Errorf("adopting server IDs: %w", err)
	}
	d.adoptBackends(byIndex)
	if d.isPrivate() {
		return nil
	}
	return d.adoptLinks()
}

func serviceKey(address [4]uint32, ipv6 bool, port uint16, protocol uint8) ServiceKey {
	return ServiceKey{Address: addressOf(address, ipv6), Port: network16(port), Protocol: Protocol(protocol)}
}

// adoptServices adopts the services of one family. Returns the addresses that echo requests are answered
// for.
func adoptServices[K any](d *Dataplane, m *ebpf.Map, byIndex map[uint32]*serviceState, convert func(K) ServiceKey) (echoes []netip.Addr, err error) {
	var k K
	var index uint32
	entries := m.Iterate()
	for entries.Next(&k, &index) {
		key := convert(k)
		if key.isEcho() {
			echoes = append(echoes, key.Address)
			continue
		}
		record := &d.services.items[index]
		st := newServiceState(key, index, Mode(record.Mode))
		st.agesSince, st.fullSince = tick(), tick()
		if !d.freeIndex.services.reserve(index) || !d.adoptTable(st.sets[""]) {
			return nil, fmt.Errorf("%w: %s overlaps another service: `sluice unload` removes them", ErrIncompatible, key)
		}
		d.state[key] = st
		byIndex[index] = st
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", m, err)
	}
	return echoes, nil
}

// adoptBackends adopts the backends of the adopted services. One that was removed and added again just
// before the end is there twice: only the later one serves.
func (d *Dataplane) adoptBackends(byIndex map[uint32]*serviceState) {
	for index := range d.backends.items[:d.options.Limits.Backends+1] {
		record := &d.backends.items[index]
		if record.Flags&balancerBackendFlagsBACKEND_USED == 0 {
			continue
		}
		endpoint := record.endpoint()
		st := byIndex[uint32(record.Service)]
		serving := record.Flags&balancerBackendFlagsBACKEND_SERVING != 0
		if st == nil || (st.backends[endpoint] != nil && !serving) {
			*record = balancerBackend{Generation: record.Generation}
			continue
		}
		if st.backends[endpoint] != nil {
			d.removeBackend(st, endpoint)
		}
		d.freeIndex.backends.reserve(uint32(index))
		st.backends[endpoint] = &backendState{index: uint32(index), down: !serving, drainingSince: tick()}
		d.useHop(endpoint.Addr(), uint32(index), d.resolver.WatchLater)
	}
}
