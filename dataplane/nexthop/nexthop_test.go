package nexthop

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What the kernel knows already is known from the first moment.
func TestWatchKnownNeighbour(t *testing.T) {
	n := newNetwork(t)
	first := n.resolver(t, probeInterval)
	watchAll(first, peer4)
	becomes(t, first, peer4, "resolved", resolved)
	first.Close()
	second := n.resolver(t, probeInterval)
	if hop := second.Watch(netip.MustParseAddr(peer4)); !hop.Resolved {
		t.Errorf("hop is %+v, want it resolved", hop)
	}
}

func TestGet(t *testing.T) {
	r := newNetwork(t).resolver(t, never)
	address := netip.MustParseAddr(peer4)
	if hop, watched := r.Get(address); watched {
		t.Errorf("an address that is not watched has the hop %+v", hop)
	}
	r.Watch(address)
	if _, watched := r.Get(address); !watched {
		t.Error("a watched address has no hop")
	}
	r.Unwatch(address)
	if hop, watched := r.Get(address); watched {
		t.Errorf("an address that is not watched any more has the hop %+v", hop)
	}
}

// Only what differs is reported.
func TestChangesAreReportedOnce(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval/10)
	watchAll(r, peer4)
	becomes(t, r, peer4, "resolved", resolved)
	for range 5 {
		n.route(t, "192.0.2.0/25", via("192.0.3.2"))
		n.route(t, "192.0.2.0/25", func(r *netlink.Route) { r.LinkIndex = link(t, n.host, "eth0").Attrs().Index })
	}
	becomes(t, r, peer4, "through eth0", through("eth0"))
	before := len(n.reports(peer4))
	for range 5 {
		n.route(t, "192.0.0.0/16", via("192.0.3.2")) // a shorter prefix
		n.route(t, "198.51.100.0/24", via(peer4))
	}
	time.Sleep(3 * probeInterval / 10) // nothing is to come: only time can tell
	if reports := n.reports(peer4); len(reports) != before {
		t.Errorf("%d hops are reported, want %d: %+v", len(reports), before, reports)
	}
}

// Whoever watches an address again while an older hop of it is being reported is left with the newer one.
func TestReportIsNotOlderThanWatch(t *testing.T) {
	n := newNetwork(t)
	address := netip.MustParseAddr(peer4)
	reporting, proceed := make(chan struct{}, 10), make(chan struct{})
	r, err := newResolver(slog.Default(), func(address netip.Addr, hop *Hop) {
		reporting <- struct{}{}
		<-proceed
		n.report(address, hop)
	}, never)
	must(t, err)
	defer r.Close()
	release := sync.OnceFunc(func() { close(proceed) })
	defer release()
	r.Watch(address)
	<-reporting
	r.Unwatch(address)
	n.route(t, peer4+"/32", func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE })
	r.Watch(address)
	release()
	eventually(t, "the newer hop is reported last", func() bool {
		reports := n.reports(peer4)
		return len(reports) == 2 && unresolved("blackhole")(reports[1])
	})
}

func TestManyAddresses(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "10.0.0.0/8", via(peer4))
	r := n.resolver(t, probeInterval)
	const addresses = 5000
	for i := range addresses {
		r.Watch(tenth(i))
	}
	all := func(wanted func(Hop) bool) func() bool {
		return func() bool {
			for i := range addresses {
				if hop, _ := r.Get(tenth(i)); !wanted(hop) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all go through eth0", all(through("eth0")))
	n.route(t, "10.0.0.0/8", via("192.0.3.2"))
	eventually(t, "all go through eth1", all(through("eth1")))
	must(t, n.host.LinkSetDown(link(t, n.host, "eth1")))
	eventually(t, "none has a route", all(unresolved("no route")))
}

// tenth returns the i-th address of 10.0.0.0/8.
func tenth(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestCloseEndsAll(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(t, probeInterval)
	watchAll(r, peer4, peer6, far4)
	becomes(t, r, peer4, "resolved", resolved)
	r.Close()
	r.Close() // again is nothing
	var stacks bytes.Buffer
	must(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
	if strings.Contains(stacks.String(), "nexthop.(*Resolver)") {
		t.Errorf("goroutines are left:\n%s", &stacks)
	}
}

// benchmark measures a change of 5,000 addresses behind one router.
func benchmark(b *testing.B, change func(r *Resolver)) {
	n := newNetwork(b)
	n.route(b, "10.0.0.0/8", via(peer4))
	r := n.resolver(b, never)
	for i := range 5000 {
		r.Watch(tenth(i))
	}
	becomes(b, r, "10.0.0.0", "resolved", resolved)
	b.ResetTimer()
	for b.Loop() {
		r.mu.Lock()
		change(r)
		r.mu.Unlock()
		r.refresh()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/address")
}

func BenchmarkRoutesChange(b *testing.B) { benchmark(b, (*Resolver).markAll) }

func BenchmarkRouterChangesMAC(b *testing.B) {
	last := byte(0)
	benchmark(b, func(r *Resolver) {
		last++
		for _, p := range r.peers {
			r.setMAC(p, []byte{2, 0, 0, 0, 0, last})
		}
	})
}

func BenchmarkWatch(b *testing.B) {
	n := newNetwork(b)
	n.route(b, "10.0.0.0/8", via(peer4))
	r := n.resolver(b, never)
	i := 0
	for b.Loop() {
		r.Watch(tenth(i))
		i++
	}
}

// Hops that differ in anything are not taken for one.
func TestHopsDiffer(t *testing.T) {
	hop := Hop{}
	if other := (Hop{MAC: net.HardwareAddr{}, VLANs: []uint16{}}); !hop.equal(&other) {
		t.Error("nothing is not nothing")
	}
	fields := reflect.TypeFor[Hop]()
	for i := range fields.NumField() {
		other := Hop{}
		field := reflect.ValueOf(&other).Elem().Field(i)
		switch value := field.Addr().Interface().(type) {
		case *bool:
			*value = true
		case *int:
			*value = 1
		case *string:
			*value = "other"
		case *net.HardwareAddr:
			*value = net.HardwareAddr{1}
		case *netip.Addr:
			*value = netip.MustParseAddr("192.0.2.1")
		case *[]uint16:
			*value = []uint16{1}
		default:
			t.Fatalf("the test does not know how to change %s", fields.Field(i).Name)
		}
		if hop.equal(&other) {
			t.Errorf("hops that differ in %s are equal", fields.Field(i).Name)
		}
	}
}

// Addresses behind one router share what is known of it, before and after it changes; others do not.
func TestHopsAreShared(t *testing.T) {
	n := newNetwork(t)
	n.route(t, "203.0.113.0/24", via(peer4))
	r := n.resolver(t, probeInterval)
	shared := func(a, b string) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.watched[netip.MustParseAddr(a)].hop == r.watched[netip.MustParseAddr(b)].hop
	}
	watchAll(r, "203.0.113.1", "203.0.113.2", peer4)
	for _, router := range []net.HardwareAddr{mac(t, n.peer, "eth0"), {2, 0, 0, 0, 0, 0x77}} {
		must(t, n.peer.LinkSetHardwareAddr(link(t, n.peer, "eth0"), router))
		for _, address := range []string{"203.0.113.1", "203.0.113.2", peer4} {
			becomes(t, r, address, "at "+router.String(), func(h Hop) bool { return h.Resolved && bytes.Equal(h.MAC, router) })
		}
		if !shared("203.0.113.1", "203.0.113.2") || shared("203.0.113.1", peer4) {
			t.Errorf("with the router at %v those behind it share no hop, or share its own", router)
		}
	}
}
