package dataplane

import (
	"encoding/hex"
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
	err := replaceEntries(st.rules, wanted, entryChange[netip.Prefix, uint32]{
		put:    func(p netip.Prefix, value uint32) error { return d.rulesOf(p).Put(ruleKey(st.index, p), value) },
		remove: func(p netip.Prefix) error { return d.rulesOf(p).Delete(ruleKey(st.index, p)) },
	})
	d.removeUnusedSets(st)
	if err != nil {
		return fmt.Errorf("setting source rules: %w", err)
	}
	return nil
}

// entryChange changes the entries of a map.
type entryChange[K comparable, V any] struct {
	put    func(K, V) error
	remove func(K) error
}

// replaceEntries makes the entries of a map, of which those of one service are known, the wanted ones. What is
// new comes before what is old goes, or, in a map without room for both, after it.
func replaceEntries[K, V comparable](known, wanted map[K]V, change entryChange[K, V]) error {
	if putEntries(known, wanted, change) == nil {
		return removeEntries(known, wanted, change)
	}
	return errors.Join(removeEntries(known, wanted, change), putEntries(known, wanted, change))
}

func putEntries[K, V comparable](known, wanted map[K]V, change entryChange[K, V]) error {
	var errs []error
	for key, value := range wanted {
		if old, ok := known[key]; ok && old == value {
			continue
		}
		if err := change.put(key, value); err != nil {
			errs = append(errs, fmt.Errorf("adding %v: %w", key, err))
			continue
		}
		known[key] = value
	}
	return errors.Join(errs...)
}

func removeEntries[K, V comparable](known, wanted map[K]V, change entryChange[K, V]) error {
	var errs []error
	for key := range known {
		if _, ok := wanted[key]; ok {
			continue
		}
		if err := change.remove(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("removing %v: %w", key, err))
			continue
		}
		delete(known, key)
	}
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
	wanted := make(map[balancerServerKey]balancerServer)
	for _, b := range s.Backends {
		if b.ServerID != "" {
			index := st.backends[b.endpoint()].index
			wanted[serverKey(st.index, b.ServerID)] = balancerServer{Backend: index, Generation: d.backends.items[index].Generation}
		}
	}
	err := replaceEntries(st.servers, wanted, entryChange[balancerServerKey, balancerServer]{
		put:    func(key balancerServerKey, server balancerServer) error { return d.objects.Servers.Put(key, server) },
		remove: func(key balancerServerKey) error { return d.objects.Servers.Delete(key) },
	})
	if err != nil {
		return fmt.Errorf("setting server IDs: %w", err)
	}
	return nil
}

func serverKey(service uint32, id ServerID) balancerServerKey {
	key := balancerServerKey{Service: service}
	copy(key.Id[:], id)
	return key
}

// String returns the bytes of the ID, with the zeros behind it, in hexadecimal.
func (k balancerServerKey) String() string { return hex.EncodeToString(k.Id[:]) }

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

// adoptSet adopts the set that a rule names. What it is called is not known until the service is set.
func (d *Dataplane) adoptSet(st *serviceState, index uint32) error {
	name := fmt.Sprintf("adopted %d", index)
	if index == sourceDenied || index == st.index || st.sets[name] != nil {
		return nil
	}
	set := &setState{index: index, adopted: true}
	if !d.freeIndex.services.reserve(index) || !d.adoptTable(set) {
		return fmt.Errorf("%w: a set of backends overlaps a service: `sluice unload` removes them", ErrIncompatible)
	}
	st.sets[name] = set
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
		st.servers[key] = server
	}
	errs := []error{entries.Err()}
	for _, key := range orphans {
		errs = append(errs, d.objects.Servers.Delete(key))
	}
	return errors.Join(errs...)
}
