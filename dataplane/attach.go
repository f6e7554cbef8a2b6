package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Folders below the pin path.
const (
	linksFolder = "links" // of the balancer, by interface
	decapFolder = "decap" // of the decapsulating program, by interface
)

// maxDevices is the number of interfaces that packets can leave by.
const maxDevices = 4096

// attachment is a program on an interface.
type attachment struct {
	link   link.Link
	index  int
	reason string
}

// Attach puts the balancer on an interface, in the network namespace of the calling thread. Where it is
// already, only the program is replaced, between two packets.
func (d *Dataplane) Attach(name string, mode XDPMode) (Interface, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pin := filepath.Join(d.options.PinPath, linksFolder, name)
	if old := d.links[name]; old != nil {
		old.link.Close()
		delete(d.links, name)
	}
	a, err := attach(name, mode, d.objects.Balancer, pin)
	if err != nil {
		return Interface{}, err
	}
	d.links[name] = a
	d.openDevice(a.index)
	return describeInterface(name, a)
}

// Detach takes the balancer off an interface; packets then go to the host's own stack.
func (d *Dataplane) Detach(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.links[name]; a != nil {
		a.link.Close()
		delete(d.links, name)
	}
	return unpinLink(filepath.Join(d.options.PinPath, linksFolder, name))
}

// Interfaces lists where the balancer is attached, sorted by name. One that vanished is not up.
func (d *Dataplane) Interfaces() []Interface {
	d.mu.Lock()
	defer d.mu.Unlock()
	interfaces := make([]Interface, 0, len(d.links))
	for _, name := range slices.Sorted(maps.Keys(d.links)) {
		a := d.links[name]
		i, err := describeInterface(name, a)
		if err != nil {
			i = Interface{Name: name, Index: a.index, Reason: err.Error()}
		}
		interfaces = append(interfaces, i)
	}
	return interfaces
}

// adoptLinks takes over the interfaces that an earlier process attached to. Their programs are replaced by
// Attach.
func (d *Dataplane) adoptLinks() error {
	folder := filepath.Join(d.options.PinPath, linksFolder)
	names, err := pins(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		l, err := link.LoadPinnedLink(filepath.Join(folder, name), nil)
		if err != nil {
			return fmt.Errorf("adopting the program on %s: %w", name, err)
		}
		d.links[name] = &attachment{link: l, index: linkIndex(l)}
	}
	return nil
}

// linkIndex returns the interface's index, 0 when the interface is gone.
func linkIndex(l link.Link) int {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return 0
	}
	return int(info.XDP().Ifindex)
}

// attach puts a program on an interface and pins the link, or replaces the program of the link that is
// pinned there.
func attach(name string, mode XDPMode, program *ebpf.Program, pin string) (*attachment, error) {
	netdev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w (`ip link` lists the ones there are)", name, err)
	}
	if a, err := replace(program, pin, netdev.Index); a != nil || err != nil {
		return a, err
	}
	a := &attachment{index: netdev.Index}
	if a.link, a.reason, err = attachNew(name, netdev.Index, mode, program); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(pin), 0o700); err != nil {
		return nil, errors.Join(err, a.link.Close())
	}
	if err := a.link.Pin(pin); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning the program on %s: %w", name, err), a.link.Close())
	}
	return a, nil
}

// replace updates the pinned link of an interface. It returns nothing when there is none, and removes one
// whose interface is gone.
func replace(program *ebpf.Program, pin string, index int) (*attachment, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("adopting %s: %w", pin, err)
	}
	if linkIndex(l) != index {
		l.Close()
		return nil, unpinLink(pin)
	}
	if err := l.Update(program); err != nil {
		l.Close()
		return nil, fmt.Errorf("replacing the program of %s: %w", pin, err)
	}
	return &attachment{link: l, index: index, reason: "as it was attached before"}, nil
}

// attachNew attaches in the mode asked for. With XDPAuto a driver without XDP gets the generic mode, and
// the reason is returned.
func attachNew(name string, index int, mode XDPMode, program *ebpf.Program) (link.Link, string, error) {
	native := func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
	}
	generic := func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPGenericMode})
	}
	if mode == XDPGeneric {
		l, err := generic()
		return l, "asked for", explain(name, err)
	}
	l, err := native()
	if err == nil || mode == XDPNative || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) {
		return l, "", explain(name, err)
	}
	reason := fmt.Sprintf("the driver refuses native XDP: %v", root(err))
	l, err = generic()
	return l, reason, explain(name, err)
}

// explain adds the way out to an error of attaching.
func explain(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("interface %s has another XDP program: take it off first (`ip link set dev %s xdp off`, or the tool that put it there): %w", name, name, root(err))
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the driver of interface %s has no native XDP: use xdp-mode auto or generic: %w", name, root(err))
	default:
		return fmt.Errorf("attaching to interface %s: %w", name, err)
	}
}

// root is the innermost error.
func root(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// describeInterface asks the kernel about an interface by its index.
func describeInterface(name string, a *attachment) (Interface, error) {
	l, err := netlink.LinkByIndex(a.index)
	if err != nil {
		return Interface{}, fmt.Errorf("interface is gone: %w", err)
	}
	i := Interface{Name: name, Index: a.index, Mode: XDPNative, Up: l.Attrs().OperState != netlink.OperDown}
	if xdp := l.Attrs().Xdp; xdp != nil && xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		i.Mode, i.Reason = XDPGeneric, a.reason
	}
	return i, nil
}

func unpinLink(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(l.Unpin(), l.Close())
}

// unpinLinks removes all pinned links of a folder, and the folder.
func unpinLinks(folder string) error {
	names, err := pins(folder)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, unpinLink(filepath.Join(folder, name)))
	}
	if err := os.Remove(folder); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
