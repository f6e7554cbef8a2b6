package nexthop

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	peer4, peer6 = "192.0.2.2", "2001:db8::2"
	far4         = "198.51.100.7" // behind the peer

	// Instead of probeInterval, where the resolver is to notice without probes.
	never = time.Hour
)

// network is a host under test and a neighbouring host, each in its network namespace, joined by the
// interfaces eth0 and eth1. The test's thread is in the host's.
type network struct {
	host, peer                   *netlink.Handle
	hostNamespace, peerNamespace netns.NsHandle

	mu       sync.Mutex
	reported map[string][]Hop // by address
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	n := &network{reported: make(map[string][]Hop)}
	n.peer, n.peerNamespace = newHost(t)
	n.host, n.hostNamespace = newHost(t)
	for i, name := range []string{"eth0", "eth1"} {
		must(t, n.host.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(int(n.peerNamespace)),
		}))
		up(t, n.host, name, fmt.Sprintf("192.0.%d.1/24", 2+i), fmt.Sprintf("2001:db8:%x::1/64", i))
		up(t, n.peer, name, fmt.Sprintf("192.0.%d.2/24", 2+i), fmt.Sprintf("2001:db8:%x::2/64", i))
	}
	return n
}

// newHost makes a network namespace, and leaves the thread in it.
func newHost(t testing.TB) (*netlink.Handle, netns.NsHandle) {
	t.Helper()
	namespace, err := netns.New()
	must(t, err)
	t.Cleanup(func() { namespace.Close() })
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(handle.Close)
	set(t, "ipv6/conf/default/accept_dad", "0") // it takes seconds
	return handle, namespace
}

// set writes a parameter of the namespace that the thread is in.
func set(t testing.TB, parameter, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/"+parameter, []byte(value), 0))
}

func (n *network) setAtPeer(t *testing.T, parameter, value string) {
	t.Helper()
	must(t, netns.Set(n.peerNamespace))
	set(t, parameter, value)
	must(t, netns.Set(n.hostNamespace))
}

// resolver starts one that ends with the test.
func (n *network) resolver(t testing.TB, probeInterval time.Duration) *Resolver {
	t.Helper()
	r, err := newResolver(slog.Default(), n.report, probeInterval)
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

func (n *network) report(address netip.Addr, hop *Hop) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reported[address.String()] = append(n.reported[address.String()], *hop)
}

// reports are those about an address so far.
func (n *network) reports(address string) []Hop {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.reported[address])
}

func up(t testing.TB, h *netlink.Handle, name string, addresses ...string) {
	t.Helper()
	must(t, h.LinkSetUp(link(t, h, name)))
	for _, text := range addresses {
		must(t, h.AddrAdd(link(t, h, name), address(t, text)))
	}
}

func address(t testing.TB, text string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(text)
	must(t, err)
	return a
}

func link(t testing.TB, h *netlink.Handle, name string) netlink.Link {
	t.Helper()
	link, err := h.LinkByName(name)
	must(t, err)
	return link
}

func mac(t testing.TB, h *netlink.Handle, name string) net.HardwareAddr {
	t.Helper()
	return link(t, h, name).Attrs().HardwareAddr
}

// move gives an interface another MAC, and returns that.
func move(t testing.TB, h *netlink.Handle, name string) net.HardwareAddr {
	t.Helper()
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	must(t, h.LinkSetHardwareAddr(link(t, h, name), moved))
	return moved
}

func (n *network) route(t testing.TB, to string, change func(*netlink.Route)) {
	t.Helper()
	_, prefix, err := net.ParseCIDR(to)
	must(t, err)
	route := &netlink.Route{Dst: prefix}
	change(route)
	must(t, n.host.RouteReplace(route))
}

func via(gateway string) func(*netlink.Route) {
	return func(r *netlink.Route) { r.Gw = net.ParseIP(gateway) }
}

// neighbour returns the host's entry for an address on eth0, nil when there is none.
func (n *network) neighbour(t testing.TB, address string) *netlink.Neigh {
	t.Helper()
	neighbours, err := n.host.NeighList(link(t, n.host, "eth0").Attrs().Index, unix.AF_UNSPEC)
	must(t, err)
	for _, neighbour := range neighbours {
		if neighbour.IP.String() == address {
			return &neighbour
		}
	}
	return nil
}

// setNeighbour configures an entry of the host for an address on eth0.
func (n *network) setNeighbour(t testing.TB, address string, entry netlink.Neigh) {
	t.Helper()
	entry.LinkIndex, entry.IP = link(t, n.host, "eth0").Attrs().Index, net.ParseIP(address)
	must(t, n.host.NeighSet(&entry))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func watchAll(r *Resolver, addresses ...string) {
	for _, address := range addresses {
		r.Watch(netip.MustParseAddr(address))
	}
}

// becomes waits until the hop of an address is as wanted.
func becomes(t testing.TB, r *Resolver, address, what string, wanted func(Hop) bool) Hop {
	t.Helper()
	a := netip.MustParseAddr(address)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		hop, _ := r.Get(a)
		if wanted(hop) {
			return hop
		}
		if time.Now().After(deadline) {
			t.Fatalf("hop of %s is %+v, want %s", address, hop, what)
		}
	}
}

// eventually waits for a state that is not a hop.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}

func resolved(h Hop) bool { return h.Resolved }

func at(mac net.HardwareAddr) func(Hop) bool {
	return func(h Hop) bool { return h.Resolved && h.MAC.String() == mac.String() }
}

func through(name string) func(Hop) bool {
	return func(h Hop) bool { return h.Resolved && h.Interface == name }
}

// unresolved wants a reason with the text.
func unresolved(text string) func(Hop) bool {
	return func(h Hop) bool { return !h.Resolved && h.MAC == nil && strings.Contains(h.Reason, text) }
}
