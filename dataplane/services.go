package dataplane

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
)

// serviceState is what is in the kernel for one service.
type serviceState struct {
	key      ServiceKey
	index    uint32 // in services, also that of the set ""
	mode     Mode
	sets     map[string]*setState
	rules    map[netip.Prefix]uint32              // the values of its source rules
	servers  map[balancerServerKey]balancerServer // what server IDs name
	backends map[netip.AddrPort]*backendState

	fullSince uint32 // tick since when all flows are remembered that are seen, of a service that did not; 0: it always did
	agesSince uint32 // tick since when it is noted when remembered flows are seen, see sweep.go
	counted   int    // remembered flows, at the last count
}

func newServiceState(key ServiceKey, index uint32, mode Mode) *serviceState {
	return &serviceState{
		key:      key,
		index:    index,
		mode:     mode,
		sets:     map[string]*setState{"": {index: index}},
		rules:    make(map[netip.Prefix]uint32),
		servers:  make(map[balancerServerKey]balancerServer),
		backends: make(map[netip.AddrPort]*backendState),
	}
}

// backendState is what is in the kernel for one backend of one service.
type backendState struct {
	index  uint32
	weight uint16
	down   bool

	drainingSince uint32  // tick at which BACKEND_DRAINING was set, or adopted
	decayed       float64 // of its load, what is no whole flow yet
}

func (b Backend) endpoint() netip.AddrPort { return netip.AddrPortFrom(b.Address, b.Port) }

// takesFlows tells whether new flows go to the backend.
func (b Backend) takesFlows() bool { return b.Weight > 0 && !b.Down }

// SetService makes the kernel match s: it adds the service or changes what differs, and leaves the flows
// of backends that stay where they are. A change of mode moves the service's flows.
//
// Where the new backends and sets fit only in the place of the old ones, those go first, and packets that
// would go to the new ones are dropped for some milliseconds.
//
// Returns ErrInvalid or ErrFull, and then nothing has changed.
func (d *Dataplane) SetService(s Service) error {
	if err := d.validate(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.state[s.ServiceKey]
	err := d.setBeside(old, s)
	if errors.Is(err, ErrFull) && old != nil && d.fitsInstead(old, s) {
		return d.setInstead(old, s)
	}
	return err
}

// setBeside puts what s has and old lacks into the kernel beside what old has. d.mu must be held.
func (d *Dataplane) setBeside(old *serviceState, s Service) error {
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
		case !s.Mode.Encapsulates() && b.Address.Is4() != s.Address.Is4():
			problem = fmt.Sprintf("mode %s needs a backend of the service's address family", s.Mode)
		case seen[b.endpoint()]:
			problem = "it is named twice"
		}
		if problem != "" {
			return fmt.Errorf("%w %s: backend %s: %s", ErrInvalid, s.ServiceKey, b.endpoint(), problem)
		}
		seen[b.endpoint()] = true
	}
	if err := s.validateTracking(); err != nil {
		return err
	}
	if s.Protocol == ProtocolSCTP && s.Mode == ModeNAT {
		return fmt.Errorf("%w %s: mode nat does not know sctp", ErrInvalid, s.ServiceKey)
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
	st := newServiceState(s.ServiceKey, index, s.Mode)
	d.byIndex[index] = st
	d.services.items[index], d.olders.items[index] = balancerService{}, balancerOlder{}
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
	if err := d.roomForRules(st, s); err != nil {
		return err
	}
	added, err := d.addBackends(st, s)
	if err != nil {
		return err
	}
	wanted := make(map[netip.AddrPort]Backend, len(s.Backends))
	for _, b := range s.Backends {
		wanted[b.endpoint()] = b
		if !b.Down {
			d.takeBack(st, s, b)
		}
	}
	tables, err := d.prepareTables(st, s)
	if err != nil {
		for _, endpoint := range added {
			d.removeBackend(st, endpoint)
		}
		d.restoreServing(st)
		return err
	}
	d.configure(st, s)
	d.switchTables(tables)
	d.track(st, s)
	err = errors.Join(d.setRules(st, s), d.setServers(st, s))
	for endpoint, b := range st.backends {
		w, ok := wanted[endpoint]
		if !ok {
			d.removeBackend(st, endpoint)
			continue
		}
		b.weight, b.down = w.Weight, w.Down
		d.setServing(b.index, !w.Down)
		d.setDraining(b)
	}
	return err
}

// restoreServing undoes the first half of a change that failed.
func (d *Dataplane) restoreServing(st *serviceState) {
	for _, b := range st.backends {
		d.setServing(b.index, !b.down)
	}
}

// configure writes what the program does for the service beside choosing a backend: the options in one
// store, since packets read them meanwhile. d.mu must be held.
func (d *Dataplane) configure(st *serviceState, s Service) {
	record := &d.services.items[st.index]
	bits := uint8(s.Address.BitLen())
	options := balancerService{
		Flags:      d.trackingFlags(st), // track changes those after the tables
		Mode:       balancerMode(s.Mode),
		Hash:       balancerHashKind(s.Hash.Kind),
		HashPrefix: cmp.Or(s.Hash.Prefix, bits),
		ClampMss:   uint16(s.ClampMSS),
		QuicConfig: s.QUIC.Config,
		QuicLength: s.QUIC.ServerIDLength,
	}
	if len(s.Sources) > 0 {
		options.Flags |= balancerServiceFlagsSERVICE_SOURCES
	}
	if s.QUIC.ServerIDLength > 0 {
		options.Flags |= balancerServiceFlagsSERVICE_QUIC
	}
	if s.Limit.Rate > 0 {
		options.Flags |= balancerServiceFlagsSERVICE_LIMITED
		record.LimitInterval = uint32(time.Second / time.Duration(s.Limit.Rate))
		record.LimitBurst = cmp.Or(s.Limit.Burst, s.Limit.Rate)
		record.LimitPrefix = cmp.Or(s.Limit.Prefix, bits)
	}
	storeOptions(record, options)
}

// storeOptions replaces the options in a service's record, in one store.
func storeOptions(record *balancerService, options balancerService) {
	const word = unsafe.Offsetof(record.Mode)
	from := (*uint64)(unsafe.Add(unsafe.Pointer(&options), word))
	atomic.StoreUint64((*uint64)(unsafe.Add(unsafe.Pointer(record), word)), *from)
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
		return d.ignoreEcho(key.Address) // where that failed the last time
	}
	if err := d.serviceMap(key).Delete(mapKey(key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("removing %s: %w", key, err)
	}
	delete(d.state, key)
	d.discard(st)
	return d.ignoreEcho(key.Address)
}

// discard gives back what a service holds that no new packet finds any more. d.mu must be held.
func (d *Dataplane) discard(st *serviceState) {
	delete(d.byIndex, st.index)
	for endpoint := range st.backends {
		d.removeBackend(st, endpoint)
	}
	if err := errors.Join(d.setRules(st, Service{}), d.setServers(st, Service{})); err != nil {
		d.log.Error("cannot remove what a service left; it is removed when the daemon starts again", "error", err)
	}
	for name := range st.sets {
		d.removeSet(st, name)
	}
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
	status, indices, slots, ok := d.copyStatus(key)
	owned := make(map[uint32]int)
	for _, slot := range slots {
		owned[slot.current()]++
		if slot.previous() != 0 {
			status.Tracking.InTransition++
		}
	}
	status.Tracking.Stable = len(slots) - status.Tracking.InTransition
	status.Slots = len(slots) - owned[0]
	for i, index := range indices {
		status.Backends[i].Slots = owned[index]
	}
	return status, ok
}

// copyStatus returns the status of a service, the indices of its backends, and a copy of its slots, for
// counting them would hold up others.
func (d *Dataplane) copyStatus(key ServiceKey) (status ServiceStatus, indices []uint32, slots []slot, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[key]
	if st == nil || d.slots.isClosed() {
		return status, nil, nil, false
	}
	for _, set := range st.sets {
		slots = append(slots, d.slots.of(set.table)...)
	}
	status.Tracking = d.trackingStatus(st)
	for _, endpoint := range slices.SortedFunc(maps.Keys(st.backends), netip.AddrPort.Compare) {
		b := st.backends[endpoint]
		indices = append(indices, b.index)
		status.Backends = append(status.Backends, BackendStatus{
			Address:  endpoint.Addr(),
			Port:     endpoint.Port(),
			Counters: d.counters(b.index),
			Active:   int(max(atomic.LoadInt64(&d.loads.items[b.index].Active), 0)),
			NextHop:  d.hopOf(endpoint.Addr()),
		})
	}
	return status, indices, slots, true
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
