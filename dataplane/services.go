package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluicelb/sluice/dataplane/maglev"
)

// maxWeight is the largest weight of a backend.
const maxWeight = 1000

// serviceState is what is in the kernel for one service.
type serviceState struct {
	index    uint32 // in services
	mode     Mode
	table    region
	members  []maglev.Backend // that the table was made of; nil after adoption: not known
	backends map[netip.AddrPort]*backendState
}

// backendState is what is in the kernel for one backend of one service.
type backendState struct {
	index  uint16
	weight uint16
	down   bool
}

func (b Backend) endpoint() netip.AddrPort { return netip.AddrPortFrom(b.Address, b.Port) }

// SetService makes the kernel match s: it adds the service or changes what differs, and leaves the flows
// of backends that stay where they are. A change of mode moves the service's flows.
//
// Returns ErrInvalid or ErrFull, and then nothing has changed.
func (d *Dataplane) SetService(s Service) error {
	if err := d.validate(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.state[s.ServiceKey]
	if old != nil && old.mode == s.Mode {
		return d.change(old, s)
	}
	fresh, err := d.create(s)
	if err != nil {
		return err
	}
	d.state[s.ServiceKey] = fresh
	if old != nil {
		d.discard(old)
	}
	return nil
}

func (d *Dataplane) validate(s Service) error {
	seen := make(map[netip.AddrPort]bool, len(s.Backends))
	for _, b := range s.Backends {
		problem := ""
		switch {
		case !b.Address.IsValid() || b.Address.Is4In6() || b.Address.Zone() != "":
			problem = "its address is not a plain IPv4 or IPv6 address"
		case s.Mode != ModeIPIP && b.Address.Is4() != s.Address.Is4():
			problem = fmt.Sprintf("mode %s needs a backend of the service's address family", s.Mode)
		case b.Weight > maxWeight:
			problem = fmt.Sprintf("weight %d is not within 0..%d", b.Weight, maxWeight)
		case seen[b.endpoint()]:
			problem = "it is named twice"
		}
		if problem != "" {
			return fmt.Errorf("%w %s: backend %s: %s", ErrInvalid, s.ServiceKey, b.endpoint(), problem)
		}
		seen[b.endpoint()] = true
	}
	if !s.Address.IsValid() || s.Address.Is4In6() || s.Address.Zone() != "" {
		return fmt.Errorf("%w %s: its address is not a plain IPv4 or IPv6 address", ErrInvalid, s.ServiceKey)
	}
	return nil
}

// create puts a service into the kernel that is not there yet, or takes the place of the one with the
// same key. d.mu must be held.
func (d *Dataplane) create(s Service) (*serviceState, error) {
	index, ok := d.takeIndex(d.freeIndex.services)
	if !ok {
		return nil, fmt.Errorf("%w: %d services (limits.services)", ErrFull, d.options.Limits.Services)
	}
	st := &serviceState{index: index, mode: s.Mode, backends: make(map[netip.AddrPort]*backendState)}
	d.services.items[index].Mode = balancerMode(s.Mode)
	atomic.StoreUint64(&d.services.items[index].Table, 0)
	err := d.change(st, s)
	if err == nil {
		err = d.answerEcho(s.Address)
	}
	if err == nil {
		err = d.serviceMap(s.ServiceKey).Put(mapKey(s.ServiceKey), index)
	}
	if err != nil {
		d.discard(st)
		return nil, errors.Join(fmt.Errorf("adding %s: %w", s.ServiceKey, err), d.ignoreEcho(s.Address))
	}
	return st, nil
}

// change makes the backends and the table of st match s. d.mu must be held.
//
// The order keeps every packet whole: what a new table names is there before the switch, and what only
// the old one names goes after it.
func (d *Dataplane) change(st *serviceState, s Service) error {
	added, err := d.addBackends(st, s)
	if err != nil {
		return err
	}
	wanted := make(map[netip.AddrPort]Backend, len(s.Backends))
	for _, b := range s.Backends {
		wanted[b.endpoint()] = b
		if !b.Down {
			d.setServing(st.backends[b.endpoint()].index, true)
		}
	}
	if err := d.rewrite(st, s); err != nil {
		for _, endpoint := range added {
			d.removeBackend(st, endpoint)
		}
		d.restoreServing(st)
		return err
	}
	for endpoint, b := range st.backends {
		w, ok := wanted[endpoint]
		if !ok {
			d.removeBackend(st, endpoint)
			continue
		}
		b.weight, b.down = w.Weight, w.Down
		d.setServing(b.index, !w.Down)
	}
	return nil
}

// restoreServing undoes the first half of a change that failed.
func (d *Dataplane) restoreServing(st *serviceState) {
	for _, b := range st.backends {
		d.setServing(b.index, !b.down)
	}
}

// rewrite builds the table that s asks for and switches to it, unless it is the current one already.
// d.mu must be held.
func (d *Dataplane) rewrite(st *serviceState, s Service) error {
	begin := time.Now()
	members := d.members(st, s)
	if st.members != nil && slices.Equal(members, st.members) {
		return nil
	}
	size := 0
	if len(members) > 0 {
		size = maglev.Size(len(s.Backends), int(d.options.Limits.TableSlots))
	}
	built := d.build(members, size)
	if st.members == nil && d.holds(st.table, built) {
		st.members = members
		return nil
	}
	table, err := d.fill(built)
	if err != nil {
		return err
	}
	atomic.StoreUint64(&d.services.items[st.index].Table, table.word())
	d.retireRegion(st.table)
	st.table, st.members = table, members
	d.noteRewrite(begin)
	return nil
}

// members lists what the table of s is made of, in the order of their endpoints.
func (d *Dataplane) members(st *serviceState, s Service) []maglev.Backend {
	members := make([]maglev.Backend, 0, len(s.Backends))
	for _, b := range s.Backends {
		if b.Weight > 0 && !b.Down {
			members = append(members, maglev.Backend{
				Endpoint: b.endpoint(), Index: st.backends[b.endpoint()].index, Weight: uint32(b.Weight),
			})
		}
	}
	slices.SortFunc(members, func(a, b maglev.Backend) int { return a.Endpoint.Compare(b.Endpoint) })
	return members
}

// build returns the indices of the backends, slot by slot, valid until the next call.
func (d *Dataplane) build(members []maglev.Backend, size int) []uint16 {
	d.scratch = slices.Grow(d.scratch[:0], size)[:size]
	if size > 0 {
		d.builder.Build(d.scratch, members)
	}
	return d.scratch
}

// holds tells whether a region has just these contents, all slots stable.
func (d *Dataplane) holds(table region, built []uint16) bool {
	if int(table.size) != len(built) {
		return false
	}
	for i, slot := range d.slots.items[table.first:table.end()] {
		if slot != (balancerSlot{Current: built[i]}) {
			return false
		}
	}
	return true
}

// fill writes a table into a region that no program can see yet.
func (d *Dataplane) fill(built []uint16) (region, error) {
	size := uint32(len(built))
	if size == 0 {
		return region{}, nil
	}
	table, ok := d.regions.take(size)
	if !ok {
		if err := d.reclaim(); err != nil {
			return region{}, err
		}
		if table, ok = d.regions.take(size); !ok {
			return region{}, fmt.Errorf("%w: no %d slots in a row are free of %d (limits.slots)", ErrFull, size, d.options.Limits.Slots)
		}
	}
	slots := d.slots.items[table.first:table.end()]
	for i, index := range built {
		slots[i] = balancerSlot{Current: index}
	}
	return table, nil
}

func (d *Dataplane) retireRegion(table region) {
	if table.size > 0 {
		d.retire(func() { d.regions.release(table) })
	}
}

// takeIndex takes a free index, waiting for retired ones when there is no other.
func (d *Dataplane) takeIndex(from *indices) (uint32, bool) {
	index, ok := from.take()
	if !ok && len(d.retired) > 0 && d.reclaim() == nil {
		index, ok = from.take()
	}
	return index, ok
}

// RemoveService takes a service out of the kernel; packets for it pass untouched from then on. It is no
// error when the service is not there.
func (d *Dataplane) RemoveService(key ServiceKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[key]
	if st == nil {
		return nil
	}
	if err := d.serviceMap(key).Delete(mapKey(key)); err != nil {
		return fmt.Errorf("removing %s: %w", key, err)
	}
	delete(d.state, key)
	d.discard(st)
	return d.ignoreEcho(key.Address)
}

// discard gives back what a service holds that no new packet finds any more. d.mu must be held.
func (d *Dataplane) discard(st *serviceState) {
	for endpoint := range st.backends {
		d.removeBackend(st, endpoint)
	}
	d.retireRegion(st.table)
	d.retire(func() {
		atomic.StoreUint64(&d.services.items[st.index].Table, 0)
		d.freeIndex.services.release(st.index)
	})
}

// Services lists what the kernel holds, sorted by key. The weights of a service that was adopted and not
// set since are not known: they are 0.
func (d *Dataplane) Services() []Service {
	d.mu.Lock()
	defer d.mu.Unlock()
	services := make([]Service, 0, len(d.state))
	for key, st := range d.state {
		s := Service{ServiceKey: key, Mode: st.mode}
		for endpoint, b := range st.backends {
			s.Backends = append(s.Backends, Backend{
				Address: endpoint.Addr(), Port: endpoint.Port(), Weight: b.weight, Down: b.down,
			})
		}
		slices.SortFunc(s.Backends, func(a, b Backend) int { return a.endpoint().Compare(b.endpoint()) })
		services = append(services, s)
	}
	slices.SortFunc(services, func(a, b Service) int { return a.Compare(b.ServiceKey) })
	return services
}

// ServiceStatus returns what the kernel knows of a service, its backends sorted by address and port.
func (d *Dataplane) ServiceStatus(key ServiceKey) (ServiceStatus, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[key]
	if st == nil {
		return ServiceStatus{}, false
	}
	owned := make(map[uint16]int)
	for _, slot := range d.slots.items[st.table.first:st.table.end()] {
		owned[slot.Current]++
	}
	status := ServiceStatus{Slots: int(st.table.size)}
	for _, endpoint := range slices.SortedFunc(maps.Keys(st.backends), netip.AddrPort.Compare) {
		b := st.backends[endpoint]
		status.Backends = append(status.Backends, BackendStatus{
			Address:  endpoint.Addr(),
			Port:     endpoint.Port(),
			Counters: d.counters(b.index),
			Slots:    owned[b.index],
			NextHop:  d.hops[endpoint.Addr()].hop,
		})
	}
	return status, true
}

func (d *Dataplane) serviceMap(key ServiceKey) *ebpf.Map {
	if key.Address.Is4() {
		return d.objects.Services4
	}
	return d.objects.Services6
}

// mapKey is the key of services4 or services6.
func mapKey(key ServiceKey) any {
	if key.Address.Is4() {
		return balancerServiceKey4{Address: words(key.Address)[0], Port: network16(key.Port), Protocol: uint8(key.Protocol)}
	}
	return balancerServiceKey6{Address: words(key.Address), Port: network16(key.Port), Protocol: uint8(key.Protocol)}
}

// words is an address in network byte order as the kernel's side holds it: IPv4 in the first word.
func words(address netip.Addr) (w [4]uint32) {
	bytes := address.AsSlice()
	for i := range len(bytes) / 4 {
		w[i] = binary.NativeEndian.Uint32(bytes[4*i:])
	}
	return w
}

// addressOf is the inverse of words.
func addressOf(w [4]uint32, ipv6 bool) netip.Addr {
	var bytes [16]byte
	for i, word := range w {
		binary.NativeEndian.PutUint32(bytes[4*i:], word)
	}
	if ipv6 {
		return netip.AddrFrom16(bytes)
	}
	return netip.AddrFrom4([4]byte(bytes[:4]))
}

// network16 converts a port between host and network byte order.
func network16(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}
