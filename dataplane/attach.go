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

	"github.com/sluicelb/sluice/dataplane/dispatcher"
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
	index  int
	reason string
	link   link.Link // nil where the interface is shared, see share.go
}

// balancerForms is the balancer in the forms that interfaces want it in.
type balancerForms struct {
	alone  *ebpf.Program
	shared *ebpf.Program // nil without Options.Share
}

// Attach puts the balancer on an interface, in the network namespace of the calling thread. Where it is
// already, only the program is replaced, between two packets.
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
	if err != nil {
		return Interface{}, err
	}
	d.forget(name) // by its old handle
	d.links[name] = a
	d.openDevice(a.index)
	return d.inspect(name, a)
}

func (d *Dataplane) attachAlone(netdev *net.Interface, mode XDPMode) (*attachment, error) {
	if err := d.stopSharing(netdev); err != nil {
		return nil, err
	}
	return attach(netdev, mode, d.balancer.alone, d.linkPin(netdev.Name))
}

// Detach takes the balancer off an interface; packets then go to the host's own stack.
func (d *Dataplane) Detach(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if a := d.links[name]; a != nil && a.link == nil {
		err = d.unshare(a.index)
	}
	d.forget(name)
	return errors.Join(err, unpinLink(d.linkPin(name)))
}

// linkPin is where the link to an interface that is not shared is pinned.
func (d *Dataplane) linkPin(name string) string {
	return filepath.Join(d.options.PinPath, linksFolder, name)
}

// forget lets go of an interface, whose program stays.
func (d *Dataplane) forget(name string) {
	if a := d.links[name]; a != nil && a.link != nil {
		a.link.Close()
	}
	delete(d.links, name)
}

// Interfaces lists where the balancer is attached, sorted by name. One that vanished is not up.
func (d *Dataplane) Interfaces() []Interface {
	d.mu.Lock()
	defer d.mu.Unlock()
	interfaces := make([]Interface, 0, len(d.links))
	for _, name := range slices.Sorted(maps.Keys(d.links)) {
		i, err := d.inspect(name, d.links[name])
		if err != nil {
			i = Interface{Name: name, Reason: err.Error()}
		}
		interfaces = append(interfaces, i)
	}
	return interfaces
}

// inspect tells how the balancer is attached, and fails when it is not any more.
func (d *Dataplane) inspect(name string, a *attachment) (Interface, error) {
	i, err := describeInterface(name, a)
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
	return d.adoptShared()
}

func interfaceByName(name string) (*net.Interface, error) {
	netdev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w (`ip link` lists the ones there are)", name, err)
	}
	return netdev, nil
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
func attach(netdev *net.Interface, mode XDPMode, program *ebpf.Program, pin string) (*attachment, error) {
	name := netdev.Name
	if a, err := replace(program, pin, netdev.Index); a != nil || err != nil {
		return a, err
	}
	a := &attachment{index: netdev.Index}
	var err error
	if a.link, a.reason, err = attachNew(netdev, mode, program); err != nil {
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
func attachNew(netdev *net.Interface, mode XDPMode, program *ebpf.Program) (l link.Link, reason string, err error) {
	reason, err = inMode(mode, func(generic bool) error {
		flags := link.XDPDriverMode
		if generic {
			flags = link.XDPGenericMode
		}
		l, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: netdev.Index, Flags: flags})
		return err
	})
	return l, reason, explain(netdev, err)
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
