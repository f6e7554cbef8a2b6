package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane/dispatcher"
)

// identityMap is the map that tells a dataplane's programs from others: nobody else uses it.
const identityMap = "services"

// XDPProgram is one of those that share an interface.
type XDPProgram struct {
	Name     string `json:"name"`     // at most 15 bytes
	Priority uint32 `json:"priority"` // the lowest runs first
}

// loadShared loads a program in the form that shares interfaces, with maps that are there already.
func loadShared(spec *ebpf.CollectionSpec, name string, maps map[string]*ebpf.Map) (*ebpf.Program, error) {
	program, err := dispatcher.Load(spec, name, ebpf.CollectionOptions{MapReplacements: maps})
	if err == nil {
		return program, nil
	}
	if missing := features.HaveProgramType(ebpf.Extension); missing != nil {
		return nil, fmt.Errorf("this kernel cannot have programs share an interface (xdp-share): %w", missing)
	}
	return nil, fmt.Errorf("loading the program that shares interfaces: %w", err)
}

// attachShared puts the balancer among the programs on an interface, or is the first one there. Where it was
// alone so far, packets pass it by for some milliseconds: the kernel cannot replace the one kind by the other.
func (d *Dataplane) attachShared(netdev *net.Interface, mode XDPMode) (*attachment, error) {
	if a := d.links[netdev.Index]; a != nil && a.link != nil {
		delete(d.links, netdev.Index)
		if err := removeLink(a.link); err != nil {
			return nil, err
		}
	}
	there, err := dispatcher.Read(netdev.Index)
	if err != nil {
		return nil, explain(netdev, err)
	}
	anew, err := d.leaveMode(netdev, there, mode)
	there.Close()
	if err != nil {
		return nil, err
	}
	a := &attachment{index: netdev.Index, name: netdev.Name}
	if len(there.Programs) > 0 && !anew {
		a.reason = "as the programs that share it"
		err = d.share(a.index, there.Generic, d.running.shared)
	} else {
		a.reason, err = inMode(mode, func(generic bool) error { return d.share(a.index, generic, d.running.shared) })
	}
	if err != nil && anew {
		err = errors.Join(err, d.share(a.index, there.Generic, d.running.shared))
	}
	if err != nil {
		return nil, explain(netdev, err)
	}
	return a, dispatcher.Clean(d.isMine())
}

// leaveMode takes the balancer off an interface where it is alone, in another mode than the one asked for, and
// tells whether it did. It fails when others are there in that mode.
func (d *Dataplane) leaveMode(netdev *net.Interface, there *dispatcher.Shared, mode XDPMode) (bool, error) {
	if len(there.Programs) == 0 || mode == XDPAuto || (mode == XDPGeneric) == there.Generic {
		return false, nil
	}
	is := XDPNative
	if there.Generic {
		is = XDPGeneric
	}
	others := slices.DeleteFunc(slices.Clone(there.Programs), isOne(d.isMine()))
	if len(others) > 0 {
		return false, fmt.Errorf("interface %s has programs in %s mode to share it with: use xdp-mode auto or %[2]s", netdev.Name, is)
	}
	return true, d.unshare(netdev.Index)
}

// share puts a program in the place of the balancer on an interface that is shared.
func (d *Dataplane) share(index int, generic bool, program *ebpf.Program) error {
	return dispatcher.Change(index, generic, func(programs []dispatcher.Program) []dispatcher.Program {
		others := slices.DeleteFunc(programs, isOne(d.isMine()))
		return append(others, dispatcher.Program{
			Name: "balancer", Priority: d.options.Priority, Continue: 1 << xdpPass, Program: program,
		})
	})
}

// unshare takes the balancer off an interface that is shared. The others stay.
func (d *Dataplane) unshare(index int) error { return leave(index, d.isMine()) }

func leave(index int, mine func(*ebpf.Program) bool) error {
	err := dispatcher.Change(index, false, func(programs []dispatcher.Program) []dispatcher.Program {
		return slices.DeleteFunc(programs, isOne(mine))
	})
	if errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, dispatcher.ErrOther) {
		err = nil // it is not there any more
	}
	return errors.Join(err, dispatcher.Clean(mine))
}

// stopSharing takes the balancer off an interface that it shares with nobody. It fails when others are there.
func (d *Dataplane) stopSharing(netdev *net.Interface) error {
	there, err := dispatcher.Read(netdev.Index)
	if errors.Is(err, dispatcher.ErrOther) {
		return nil // the balancer alone, or what the kernel refuses to replace
	}
	if err != nil {
		return err
	}
	defer there.Close()
	others := slices.DeleteFunc(slices.Clone(there.Programs), isOne(d.isMine()))
	if len(others) > 0 {
		return fmt.Errorf("interface %s has XDP programs of libxdp (%s): set xdp-share: true to share it with them, or take them off first (`xdp-loader unload %[1]s --all`)",
			netdev.Name, strings.Join(programNames(others), ", "))
	}
	if len(there.Programs) == 0 {
		return nil
	}
	return d.unshare(netdev.Index)
}

// sharing lists the programs on an interface that the balancer shares.
func (d *Dataplane) sharing(index int) ([]XDPProgram, error) {
	there, err := dispatcher.Read(index)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if !slices.ContainsFunc(there.Programs, isOne(d.isMine())) {
		return nil, errTakenOff
	}
	var programs []XDPProgram
	for _, p := range there.Programs {
		programs = append(programs, XDPProgram{Name: p.Name, Priority: p.Priority})
	}
	return programs, nil
}

// adoptShared takes over the interfaces that an earlier process shared.
func (d *Dataplane) adoptShared() error {
	indices, err := dispatcher.Interfaces()
	if err != nil {
		return err
	}
	for _, index := range indices {
		if _, err := d.sharing(index); err != nil {
			continue // not this dataplane's
		}
		d.links[index] = &attachment{index: index, name: nameOf(index), reason: asBefore}
	}
	return nil
}

// unloadShared takes the balancer of a pin path off the interfaces of this network namespace that it shares.
func unloadShared(pinPath string) error {
	identity, err := ebpf.LoadPinnedMap(filepath.Join(pinPath, identityMap), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer identity.Close()
	mine := uses(identity)
	indices, err := dispatcher.Interfaces()
	errs := []error{err}
	for _, index := range indices {
		errs = append(errs, leave(index, mine))
	}
	return errors.Join(append(errs, dispatcher.Clean(mine))...)
}

func (d *Dataplane) isMine() func(*ebpf.Program) bool { return uses(d.objects.Services) }

// uses tells programs that use a map from those that do not.
func uses(m *ebpf.Map) func(*ebpf.Program) bool {
	info, err := m.Info()
	if err != nil {
		return func(*ebpf.Program) bool { return false }
	}
	id, _ := info.ID()
	return func(p *ebpf.Program) bool {
		info, err := p.Info()
		if err != nil {
			return false
		}
		ids, _ := info.MapIDs()
		return slices.Contains(ids, id)
	}
}

func isOne(mine func(*ebpf.Program) bool) func(dispatcher.Program) bool {
	return func(p dispatcher.Program) bool { return mine(p.Program) }
}

func programNames(programs []dispatcher.Program) []string {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = p.Name
	}
	return names
}
