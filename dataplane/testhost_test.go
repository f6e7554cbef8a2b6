package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The host that the programs run on in these tests: a network namespace of its own with an interface
// towards clients and one towards servers.
//
//	clients eth0 192.0.2.1/24 2001:db8:1::1/64
//	servers eth1 198.51.100.1/24 2001:db8:2::1/64
type testHost struct {
	*Dataplane
	namespace        netns.NsHandle
	clients, servers int // ifindex
}

var (
	clientMAC  = mac("02:00:00:00:01:99")
	clientsMAC = mac("02:00:00:00:01:01")
	serversMAC = mac("02:00:00:00:02:01")
)

func mac(text string) net.HardwareAddr {
	address, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return address
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// serverMAC is the MAC of the server with the number n, which every address ending in n has.
func serverMAC(n int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)}
}

var pinNumber atomic.Uint32

// testOptions are small tables under a pin path of their own.
func testOptions(t testing.TB) Options {
	t.Helper()
	path := fmt.Sprintf("%s/sluice-test-%d-%d", bpffs, os.Getpid(), pinNumber.Add(1))
	t.Cleanup(func() {
		if err := Unload(path); err != nil {
			t.Error("unloading:", err)
		}
	})
	return Options{
		PinPath:  path,
		Limits:   Limits{Services: 64, Backends: 4096, Slots: 1 << 20, Flows: 1 << 14},
		NATPorts: PortRange{First: 5000, Last: 5000},
	}
}

// newTestHost makes the host and opens a dataplane on it. The test must not leave its goroutine: the
// thread is in the host's namespace.
func newTestHost(t testing.TB, options Options) *testHost {
	t.Helper()
	h := &testHost{
		namespace: inNamespace(t),

		clients: addInterface(t, "eth0", clientsMAC, "192.0.2.1/24", "2001:db8:1::1/64"),
		servers: addInterface(t, "eth1", serversMAC, "198.51.100.1/24", "2001:db8:2::1/64"),
	}
	for n := range 120 {
		for ifindex, addresses := range map[int][]string{
			h.clients: {fmt.Sprintf("192.0.2.%d", n), fmt.Sprintf("2001:db8:1::%x", n)},
			h.servers: {fmt.Sprintf("198.51.100.%d", n), fmt.Sprintf("2001:db8:2::%x", n)},
		} {
			for _, address := range addresses {
				if n > 1 {
					addNeighbour(t, ifindex, address, serverMAC(n))
				}
			}
		}
	}
	h.Dataplane = openTest(t, options)
	h.openDevice(h.clients)
	return h
}

func openTest(t testing.TB, options Options) *Dataplane {
	t.Helper()
	d, err := Open(options)
	if err != nil {
		t.Fatalf("opening the dataplane: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error("closing:", err)
		}
	})
	return d
}

// inNamespace moves the test into a network namespace of its own, which ends with it.
func inNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("making a network namespace (these tests need root): %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// here moves a subtest, which has a goroutine of its own, into the host's namespace.
func (h *testHost) here(t testing.TB) *testHost {
	t.Helper()
	runtime.LockOSThread()
	must(t, netns.Set(h.namespace))
	return h
}

// forget empties the tables of flows.
func (h *testHost) forget(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{h.objects.Flows4, h.objects.Flows6, h.objects.Replies4, h.objects.Replies6} {
		for _, key := range keys(t, m) {
			must(t, m.Delete(key))
		}
	}
}

// keys lists the keys of a map, in no order.
func keys(t testing.TB, m *ebpf.Map) [][]byte {
	t.Helper()
	var found [][]byte
	var key, value []byte
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		found = append(found, append([]byte(nil), key...))
	}
	must(t, entries.Err())
	return found
}

// addInterface makes an interface that is up, with a peer in the same namespace.
func addInterface(t testing.TB, name string, mac net.HardwareAddr, addresses ...string) int {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}, PeerName: name + "-peer"}
	must(t, netlink.LinkAdd(veth))
	peer, err := netlink.LinkByName(veth.PeerName)
	must(t, err)
	must(t, netlink.LinkSetUp(peer))
	return setUp(t, name, addresses...)
}

func setUp(t testing.TB, name string, addresses ...string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		must(t, err)
		address.Flags = 2 // IFA_F_NODAD: usable at once
		must(t, netlink.AddrAdd(link, address))
	}
	return link.Attrs().Index
}

func addNeighbour(t testing.TB, ifindex int, address string, mac net.HardwareAddr) {
	t.Helper()
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: ifindex, IP: net.ParseIP(address), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// set sets a service and waits until the next hops of its backends are known.
func (h *testHost) set(t testing.TB, s Service) {
	t.Helper()
	must(t, h.SetService(s))
	eventually(t, "the next hops of "+s.String(), func() bool {
		status, _ := h.ServiceStatus(s.ServiceKey)
		for _, b := range status.Backends {
			if !b.NextHop.Resolved {
				return false
			}
		}
		return true
	})
}

// eventually waits for what happens in the background, at most 5 seconds.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s within 5 s", what)
		}
	}
}

// receive gives a frame to the balancer on an interface.
func (h *testHost) receive(t testing.TB, ifindex int, frame []byte) (action uint32, out []byte) {
	t.Helper()
	action, out, err := runProgram(h.objects.Balancer, ifindex, frame)
	must(t, err)
	return action, out
}
