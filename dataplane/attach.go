package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane/dispatcher"
)

// Folders below the pin path.
const (
	linksFolder = "links" // of the balancer
	decapFolder = "decap" // of the decapsulating program
)

// maxDevices is the number of interfaces that packets can leave by.
const maxDevices = 4096

// attachment is a program on an interface.
type attachment struct {
	index  int
	name   string // the last one known: interfaces are renamed
	reason string
	link   link.Link // nil where the interface is shared, see share.go
}

// balancerForms is the balancer in the forms that interfaces want it in.
type balancerForms struct {
	alone  *ebpf.Program
	shared *ebpf.Program // nil without Options.Share
}

// Attach puts the balancer on an interface, in the network namespace of the calling thread. Where it is
// already, only the program is replaced, between two packets. Only where it is there in another mode than the one
// asked for it is taken off first: packets pass it by for some milliseconds. An interface that refuses the mode
// keeps the old one, with an error.
func (d *Dataplane) Attach(name string, mode XDPMode) (Interface, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	netdev, err := interfaceByName(name)
	if err != nil {
		return Interface{}, err
	}
	attachOne := d.attachAlone
	if d.options.Share {
		attachOne = d.attachShared
	}
	a, err := attachOne(netdev, mode)
	if a != nil {
		d.note(a)
	}
	if err != nil {
		return Interface{}, err
	}
	d.openDevice(a.index)
	return d.inspect(a)
}

func (d *Dataplane) attachAlone(netdev *net.Interface, mode XDPMode) (*attachment, error) {
	if err := d.stopSharing(netdev); err != nil {
		return nil, err
	}
	return attach(netdev, mode, d.running.alone, d.linksPath())
}

// Detach takes the balancer off an interface; packets then go to the host's own stack.
func (d *Dataplane) Detach(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, a := range d.links {
		if a.currentName() != name {
			continue
		}
		if a.link == nil {
			errs = append(errs, d.unshare(a.index))
		} else {
			errs = append(errs, removeLink(a.link))
		}
		delete(d.links, a.index)
	}
	return errors.Join(errs...)
}

// linksPath is where the links to interfaces that are not shared are pinned.
func (d *Dataplane) linksPath() string { return filepath.Join(d.options.PinPath, linksFolder) }

// note makes an attachment known, in place of earlier ones to the same interface, or to one of the same name that
// is gone. d.mu must be held.
func (d *Dataplane) note(a *attachment) {
	for index, old := range d.links {
		if index == a.index || old.currentName() == a.name {
			d.forget(index)
		}
	}
	d.links[a.index] = a
}

// forget lets go of an interface, whose program stays.
func (d *Dataplane) forget(index int) {
	if a := d.links[index]; a != nil && a.link != nil {
		a.link.Close()
	}
	delete(d.links, index)
}

// currentName is what the interface is called now, or was called last.
func (a *attachment) currentName() string {
	a.name = cmp.Or(nameOf(a.index), a.name)
	return a.name
}

// nameOf returns the name of an interface, "" when it is gone.
func nameOf(index int) string {
	netdev, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return netdev.Name
}

// Interfaces lists where the balancer is attached, sorted by name. One that vanished is not up.
func (d *Dataplane) Interfaces() []Interface {
	d.mu.Lock()
	defer d.mu.Unlock()
	interfaces := make([]Interface, 0, len(d.links))
	for _, a := range d.links {
		i, err := d.inspect(a)
		if err != nil {
			i = Interface{Name: a.currentName(), Reason: err.Error()}
		}
		interfaces = append(interfaces, i)
	}
	slices.SortFunc(interfaces, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	return interfaces
}

// inspect tells how the balancer is attached, and fails when it is not any more.
func (d *Dataplane) inspect(a *attachment) (Interface, error) {
	i, err := a.describe()
	if err != nil {
		return i, err
	}
	if a.link == nil {
		i.Programs, err = d.sharing(a.index)
	} else if linkIndex(a.link) != a.index {
		err = errTakenOff
	}
	return i, err
}

// errTakenOff means that the program is not on the interface any more.
var errTakenOff = errors.New("another tool took the balancer off")

// adoptLinks takes over the interfaces that an earlier process attached to. Their programs are replaced by
// Attach.
func (d *Dataplane) adoptLinks() error {
	links, err := pinnedLinks(d.linksPath())
	for _, l := range links {
		index := linkIndex(l)
		d.links[index] = &attachment{link: l, index: index, name: nameOf(index), reason: asBefore}
	}
	if err != nil {
		return err
	}
	return d.adoptShared()
}

// asBefore is the reason of what was there before, when it is not native.
const asBefore = "as it was attached before"

func interfaceByName(name string) (*net.Interface, error) {
	netdev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w (`ip link` lists the ones there are)", name, err)
	}
	return netdev, nil
}

// attach puts a program on an interface and pins the link in a folder, or replaces the program of the link that
// is pinned there. With an error it may return an attachment, which stays.
func attach(netdev *net.Interface, mode XDPMode, program *ebpf.Program, folder string) (*attachment, error) {
	old, err := findLink(folder, netdev.Index)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return attachNew(netdev, mode, program, folder)
	}
	a := &attachment{index: netdev.Index, name: netdev.Name, reason: asBefore, link: old}
	now, err := a.describe()
	if err == nil && mode != XDPAuto && mode != now.Mode {
		return a.reattach(netdev, now.Mode, mode, program, folder)
	}
	if err == nil {
		err = old.Update(program)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("replacing the program on %s: %w", netdev.Name, err), old.Close())
	}
	return a, nil
}

// reattach puts a program on an interface in another mode than the one it is there in: the kernel wants it off
// first. Where the interface refuses, the program comes back in the old mode.
func (a *attachment) reattach(netdev *net.Interface, from, to XDPMode, program *ebpf.Program, folder string) (*attachment, error) {
	if err := removeLink(a.link); err != nil {
		return nil, err
	}
	fresh, err := attachNew(netdev, to, program, folder)
	if err == nil {
		return fresh, nil
	}
	back, failure := attachNew(netdev, from, program, folder)
	return back, errors.Join(err, failure)
}

// attachNew attaches in the mode asked for. With XDPAuto a driver without XDP gets the generic mode.
func attachNew(netdev *net.Interface, mode XDPMode, program *ebpf.Program, folder string) (*attachment, error) {
	a := &attachment{index: netdev.Index, name: netdev.Name}
	var err error
	a.reason, err = inMode(mode, func(generic bool) error {
		flags := link.XDPDriverMode
		if generic {
			flags = link.XDPGenericMode
		}
		a.link, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: netdev.Index, Flags: flags})
		return err
	})
	if err != nil {
		return nil, explain(netdev, err)
	}
	if err := pinLink(a.link, folder, netdev.Index); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning the program on %s: %w", netdev.Name, err), a.link.Close())
	}
	return a, nil
}

// inMode attaches in the mode asked for, and tells why it is generic.
func inMode(mode XDPMode, attach func(generic bool) error) (reason string, err error) {
	if mode == XDPGeneric {
		return "asked for", attach(true)
	}
	err = attach(false)
	if err == nil || mode == XDPNative {
		return "", err
	}
	for _, sure := range []error{unix.EBUSY, unix.EEXIST, unix.EPERM, dispatcher.ErrOther, dispatcher.ErrFull} {
		if errors.Is(err, sure) {
			return "", err
		}
	}
	return fmt.Sprintf("the driver refuses native XDP: %v", root(err)), attach(true)
}

// explain adds the way out to an error of attaching.
func explain(netdev *net.Interface, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST), errors.Is(err, dispatcher.ErrOther):
		return fmt.Errorf("interface %s has another XDP program: take it off first (`ip link set dev %[1]s xdp off`, or the tool that put it there): %w",
			netdev.Name, root(err))
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the driver of interface %s has no native XDP: use xdp-mode auto or generic: %w", netdev.Name, root(err))
	default:
		return fmt.Errorf("attaching to interface %s: %w", netdev.Name, err)
	}
}

// root is the innermost error.
func root(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// describe asks the kernel about the interface by its index.
func (a *attachment) describe() (Interface, error) {
	l, err := netlink.LinkByIndex(a.index)
	if err != nil {
		return Interface{}, fmt.Errorf("interface is gone: %w", err)
	}
	a.name = l.Attrs().Name
	i := Interface{Name: a.name, Index: a.index, Mode: XDPNative, Up: l.Attrs().OperState != netlink.OperDown}
	if xdp := l.Attrs().Xdp; xdp != nil && xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		i.Mode, i.Reason = XDPGeneric, a.reason
	}
	return i, nil
}
