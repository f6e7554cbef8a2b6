package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ProbePath says which marks, table and rules of the host serve probes; see ProbeMark. Another dataplane in
// the same network namespace needs others. A zero field means the one of DefaultProbePath.
type ProbePath struct {
	Mark     uint32 `json:"mark"`     // of packets; its lower 20 bits are 0 and hold a backend's index
	Table    uint32 `json:"table"`    // of routes, not one of the kernel's; without one the upper 16 bits of Mark
	Priority uint32 `json:"priority"` // of the rules that lead there, 1..32765; lower ones come first
}

// DefaultProbePath has numbers that no other software is known to use. Its rules come after the one for the
// host's own addresses, which is the first, and before all that usual VPNs and CNIs make.
var DefaultProbePath = ProbePath{Mark: 0x51c00000, Table: 0x51c0, Priority: 51}

// probeIndex is PROBE_INDEX in bpf/probe.c: the bits of a mark that hold a backend's index.
const probeIndex = 0xfffff

// Check returns an error that names the field that is wrong.
func (p ProbePath) Check() error {
	switch {
	case p.Mark&probeIndex != 0:
		return fmt.Errorf("mark %#x is no multiple of %#x", p.Mark, probeIndex+1)
	case p.Table >= unix.RT_TABLE_COMPAT && p.Table <= unix.RT_TABLE_LOCAL:
		return fmt.Errorf("table %d is the kernel's own", p.Table)
	case p.Table > math.MaxInt32:
		return fmt.Errorf("table %d is not within 1..%d", p.Table, math.MaxInt32)
	case p.Priority > maxPriority:
		return fmt.Errorf("priority %d is not within 1..%d", p.Priority, maxPriority)
	}
	return nil
}

// maxPriority is that of the last rule before the one for the main table (fib_default_rules_init in the kernel's
// net/ipv4/fib_rules.c).
const maxPriority = 32765

func (p ProbePath) withDefaults() ProbePath {
	p.Mark = cmp.Or(p.Mark, DefaultProbePath.Mark)
	return ProbePath{
		Mark:     p.Mark,
		Table:    cmp.Or(p.Table, p.Mark>>16),
		Priority: cmp.Or(p.Priority, DefaultProbePath.Priority),
	}
}

// ProbeMark returns the mark (SO_MARK in socket(7)) of sockets whose packets to the service's own address
// reach that backend, whatever the table says and whether it is down, through the same headers as the packets
// of clients. The backend answers directly, as it answers clients; the sockets should be bound to ProbeSource,
// so that its answers find the way.
//
// The mark is for packets that are sent now: the backend that takes the place of one that was removed may get
// the same one, so ask anew for each probe. The first call makes what marked packets need: a device, and for
// each address family a route and a rule. They stay until Unload, and are made again when somebody took them
// away.
//
// Fails when the backend is not known, its next hop is not resolved (ErrUnresolved), or the service's mode is nat, whose
// probes go to the backend's own address; and when the host would not let marked packets reach the device.
func (d *Dataplane) ProbeMark(key ServiceKey, backend netip.AddrPort) (uint32, error) {
	index, _, err := d.probed(key, backend)
	if err != nil {
		return 0, err
	}
	if err := d.probes.ensure(key.Address); err != nil {
		return 0, fmt.Errorf("no way for probes of %s: %w", key, err)
	}
	return d.options.ProbePath.Mark | index, nil
}

// ProbeSource returns the address that the sockets of ProbeMark should be bound to: this host's towards the
// backend, or where that is of the other family, one of the service's family on the same interface. It is
// zero when there is none: then the kernel chooses.
//
// Fails as ProbeMark does when the backend cannot be probed.
func (d *Dataplane) ProbeSource(key ServiceKey, backend netip.AddrPort) (netip.Addr, error) {
	_, hop, err := d.probed(key, backend)
	if err != nil {
		return netip.Addr{}, err
	}
	if hop.Source.Is4() == key.Address.Is4() {
		return hop.Source, nil
	}
	return d.probes.addressOn(hop.Interface, family(key.Address))
}

// probed returns the index and the next hop of a backend that can be probed.
func (d *Dataplane) probed(key ServiceKey, backend netip.AddrPort) (index uint32, hop NextHop, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isPrivate() {
		return 0, hop, errors.New("a private dataplane sends no probes")
	}
	b, err := d.find(key, backend)
	if err != nil {
		return 0, hop, err
	}
	if d.state[key].mode == ModeNAT {
		return 0, hop, fmt.Errorf("%s is in mode nat: probe the backend's own address", key)
	}
	hop = d.hopOf(backend.Addr())
	if !hop.Resolved {
		return 0, hop, fmt.Errorf("backend %s of %s: %w: %s", backend, key, ErrUnresolved, hop.Reason)
	}
	return b.index, hop, nil
}

// family is that of an address as netlink has it.
func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
