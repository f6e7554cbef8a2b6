package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// sourceDenied is SOURCE_DENIED in headers/sluice.h.
const sourceDenied = 0xffffffff

// maxRules is the number of source rules of all services of one family together.
const maxRules = 1 << 20

// roomForRules returns ErrFull when the rules of s do not fit beside those of other services. d.mu must be
// held.
func (d *Dataplane) roomForRules(st *serviceState, s Service) error {
	if len(s.Sources) == 0 {
		return nil
	}
	others := 0
	for key, other := range d.state {
		if key.Address.Is4() == s.Address.Is4() && other != st {
			others += len(other.rules)
		}
	}
	if others+len(s.Sources) > maxRules {
		return fmt.Errorf("%w: %d source rules", ErrFull, maxRules)
	}
	return nil
}

// setRules makes the source rules of st those of s, whose sets are there, and removes sets that no rule names
// any more. d.mu must be held.
func (d *Dataplane) setRules(st *serviceState, s Service) error {
	wanted := make(map[netip.Prefix]uint32, len(s.Sources))
	for _, rule := range s.Sources {
		if rule.Deny {
			wanted[rule.Prefix] = sourceDenied
		} else {
			wanted[rule.Prefix] = st.sets[rule.Set].index
		}
	}
	var errs []error
	for prefix, value := range wanted {
		if old, known := st.rules[prefix]; known && old == value {
			continue
		}
		if err := d.rulesOf(prefix).Put(ruleKey(st.index, prefix), value); err != nil {
			errs = append(errs, fmt.Errorf("adding the rule for %s: %w", prefix, err))
			continue
		}
		st.rules[prefix] = value
	}
	for prefix := range st.rules {
		if _, ok := wanted[prefix]; ok {
			continue
		}
		if err := d.rulesOf(prefix).Delete(ruleKey(st.index, prefix)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("removing the rule for %s: %w", prefix, err))
			continue
		}
		delete(st.rules, prefix)
	}
	d.removeUnusedSets(st)
	return errors.Join(errs...)
}

func (d *Dataplane) rulesOf(prefix netip.Prefix) *ebpf.Map {
	if prefix.Addr().Is4() {
		return d.objects.Sources4
	}
	return d.objects.Sources6
}

// serviceBits is the part of a rule's key before the address, in bits.
const serviceBits = 32

func ruleKey(service uint32, prefix netip.Prefix) any {
	bits := serviceBits + uint32(prefix.Bits())
	if prefix.Addr().Is4() {
		return balancerSourceKey4{Prefix: bits, Service: service, Address: words(prefix.Addr())[0]}
	}
	return balancerSourceKey6{Prefix: bits, Service: service, Address: words(prefix.Addr())}
}

// setServers makes the server IDs that QUIC connection IDs name backends of st by those of s. d.mu must be
// held.
func (d *Dataplane) setServers(st *serviceState, s Service) error {
	wanted := make(map[ServerID]balancerServer)
	for _, b := range s.Backends {
		if b.ServerID != "" {
			index := st.backends[b.endpoint()].index
			wanted[b.ServerID] = balancerServer{Backend: index, Generation: d.backends.items[index].Generation}
		}
	}
	var errs []error
	for id, server := range wanted {
		if old, known := st.servers[id]; known && old == server {
			continue
		}
		if err := d.objects.Servers.Put(serverKey(st.index, id), server); err != nil {
			errs = append(errs, fmt.Errorf("adding server ID %s: %w", id, err))
			continue
		}
		st.servers[id] = server
	}
	for id := range st.servers {
		if _, ok := wanted[id]; ok {
			continue
		}
		if err := d.objects.Servers.Delete(serverKey(st.index, id)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("removing server ID %s: %w", id, err))
			continue
		}
		delete(st.servers, id)
	}
	return errors.Join(errs...)
}

func serverKey(service uint32, id ServerID) balancerServerKey {
	key := balancerServerKey{Service: service}
	copy(key.Id[:], id)
	return key
}

// adoptRules reads the rules that an earlier process left, with the sets that they name, and removes those
// of services that are gone. d.mu must be held.
func (d *Dataplane) adoptRules(byIndex map[uint32]*serviceState) error {
	err := adoptRules(d, d.objects.Sources4, byIndex, func(k balancerSourceKey4) (uint32, netip.Prefix) {
		return k.Service, netip.PrefixFrom(addressOf([4]uint32{k.Address}, false), int(k.Prefix)-serviceBits)
	})
	if err != nil {
		return err
	}
	return adoptRules(d, d.objects.Sources6, byIndex, func(k balancerSourceKey6) (uint32, netip.Prefix) {
		return k.Service, netip.PrefixFrom(addressOf(k.Address, true), int(k.Prefix)-serviceBits)
	})
}

func adoptRules[K any](d *Dataplane, m *ebpf.Map, byIndex map[uint32]*serviceState, convert func(K) (uint32, netip.Prefix)) error {
	var key K
	var value uint32
	var orphans []K
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		service, prefix := convert(key)
		st := byIndex[service]
		if st == nil {
			orphans = append(orphans, key)
			continue
		}
		st.rules[prefix] = value
		if err := d.adoptSet(st, value); err != nil {
			return err
		}
	}
	errs := []error{entries.Err()}
	for _, key := range orphans {
		errs = append(errs, m.Delete(key))
	}
	return errors.Join(errs...)
}

// adoptSet adopts the set that a rule names. What it is called is not known until the service is set, so
// then it is replaced.
func (d *Dataplane) adoptSet(st *serviceState, index uint32) error {
	name := fmt.Sprintf("adopted %d", index)
	if index == sourceDenied || index == st.index || st.sets[name] != nil {
		return nil
	}
	table := regionOf(d.services.items[index].Table)
	if !d.freeIndex.services.reserve(index) || (table.size > 0 && !d.regions.reserve(table)) {
		return fmt.Errorf("%w: a set of backends overlaps a service: `sluice unload` removes them", ErrIncompatible)
	}
	st.sets[name] = &setState{index: index, table: table}
	return nil
}

// adoptServers reads the server IDs that an earlier process left, and removes those that name nothing. d.mu
// must be held.
func (d *Dataplane) adoptServers(byIndex map[uint32]*serviceState) error {
	var key balancerServerKey
	var server balancerServer
	var orphans []balancerServerKey
	entries := d.objects.Servers.Iterate()
	for entries.Next(&key, &server) {
		st := byIndex[key.Service]
		if st == nil || d.backends.items[server.Backend].Generation != server.Generation {
			orphans = append(orphans, key)
			continue
		}
		length := min(int(d.services.items[st.index].QuicLength), maxServerID)
		st.servers[ServerID(key.Id[:length])] = server
	}
	errs := []error{entries.Err()}
	for _, key := range orphans {
		errs = append(errs, d.objects.Servers.Delete(key))
	}
	return errors.Join(errs...)
}
