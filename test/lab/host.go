package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is a network namespace. Its methods are safe for concurrent use.
type Host struct {
	lab       *Lab
	name      string
	namespace netns.NsHandle
	netlink   *netlink.Handle

	mu        sync.Mutex
	addresses map[string][]string // by interface, as given to Addr
}

// hostSysctls make every host behave alike whatever the machine's defaults are.
var hostSysctls = []struct{ key, value string }{
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.default.rp_filter", "0"},
	{"net.ipv4.tcp_congestion_control", "reno"},
	// IPv6 addresses work at once.
	{"net.ipv6.conf.all.accept_dad", "0"},
	{"net.ipv6.conf.default.accept_dad", "0"},
	{"net.ipv6.conf.default.dad_transmits", "0"},
}

// Host adds a host. It has only a loopback interface, which is up; see Connect and Switch for others.
func (l *Lab) Host(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the lab is closed")
	}
	namespace, err := newNamespace(l.prefix + name)
	if err != nil {
		return nil, fmt.Errorf("making the host %s: %w", name, err)
	}
	h := &Host{lab: l, name: name, namespace: namespace, addresses: make(map[string][]string)}
	l.hosts = append(l.hosts, h)
	if h.netlink, err = netlink.NewHandleAt(namespace); err != nil {
		return nil, fmt.Errorf("opening netlink on %s: %w", name, err)
	}
	for _, s := range hostSysctls {
		if err := h.Sysctl(s.key, s.value); err != nil {
			return nil, err
		}
	}
	return h, h.LinkUp("lo")
}

// newNamespace makes a network namespace on a thread that ends with it.
func newNamespace(name string) (netns.NsHandle, error) {
	var namespace netns.NsHandle
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is in the namespace
		namespace, err = netns.NewNamed(name)
	}()
	<-done
	return namespace, err
}

func (h *Host) close() error {
	if h.netlink != nil {
		h.netlink.Close()
	}
	return errors.Join(h.namespace.Close(), removeNamespace(h.lab.prefix+h.name))
}

// Name returns the name that was given to Lab.Host.
func (h *Host) Name() string { return h.name }

// Netlink returns a handle that works inside the namespace, for what Host has no method for.
func (h *Host) Netlink() *netlink.Handle { return h.netlink }

// Do runs a function inside the namespace, on the calling goroutine: sockets and BPF links made there stay
// in it. Goroutines that the function starts are outside. Do may be nested and left by runtime.Goexit
// (t.FailNow) or a panic.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering %s: %w", h.name, err)
	}
	defer before.Close()
	defer func() {
		// A thread that cannot return stays locked, so that it ends with its goroutine.
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
	}()
	if err := netns.Set(h.namespace); err != nil {
		return fmt.Errorf("entering %s: %w", h.name, err)
	}
	return f()
}

// Sysctl sets for example "net.ipv4.ip_forward", which must belong to network namespaces. The names of
// interfaces must not contain dots; write them as slashes.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error {
		path := "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s on %s: %w", key, h.name, err)
		}
		return nil
	})
}

// Forward makes the host a router for IPv4 and IPv6.
func (h *Host) Forward() error {
	return errors.Join(
		h.Sysctl("net.ipv4.ip_forward", "1"),
		h.Sysctl("net.ipv6.conf.all.forwarding", "1"),
	)
}
