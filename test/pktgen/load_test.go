package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// As pktgen goes through addresses and ports, as many pairs come as flows were asked for, or a few more.
func TestSpread(t *testing.T) {
	for _, flows := range []int{1, 2, 1000, portCount, portCount + 1, 100_000, 129_024, 1_000_000} {
		addresses, ports, ok := load{Flows: flows, Threads: 1}.spread(false)
		if !ok || ports > portCount {
			t.Errorf("%d flows: %d addresses, %d ports, %v", flows, addresses, ports, ok)
			continue
		}
		type pair struct{ address, port int }
		pairs := make(map[pair]bool)
		for n := range addresses * ports {
			pairs[pair{n % addresses, n % ports}] = true
		}
		if len(pairs) < flows || len(pairs) > flows+flows/1000 {
			t.Errorf("%d flows: %d addresses and %d ports make %d pairs", flows, addresses, ports, len(pairs))
		}
	}
}

func TestAdvance(t *testing.T) {
	for _, c := range []struct {
		from string
		n    int
		want string
	}{
		{"192.0.2.1", 0, "192.0.2.1"},
		{"192.0.2.255", 1, "192.0.3.0"},
		{"10.255.255.255", 257, "11.0.1.0"},
		{"2001:db8::ffff", 1, "2001:db8::1:0"},
	} {
		if got := advance(netip.MustParseAddr(c.from), c.n).String(); got != c.want {
			t.Errorf("%d after %s is %s, not %s", c.n, c.from, got, c.want)
		}
	}
}

func TestCommands(t *testing.T) {
	v4 := target{
		destination: netip.MustParseAddrPort("203.0.113.10:9"), source: netip.MustParseAddr("192.0.2.2"),
		mac: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	}
	l := load{Size: 100, Flows: 200_000, Threads: 2, Packets: 7, Rate: 1000, repeat: 1}
	want := `count 3
pkt_size 100
clone_skb 0
dst_mac 02:00:00:00:00:01
udp_src_min 1024
udp_src_max 51025
udp_dst_min 9
udp_dst_max 9
dst_min 203.0.113.10
dst_max 203.0.113.10
src_min 192.0.2.4
src_max 192.0.2.5
ratep 500`
	if diff := cmp.Diff(want, strings.Join(l.commands(v4, 1), "\n")); diff != "" {
		t.Error(diff)
	}
	v6 := target{destination: netip.MustParseAddrPort("[2001:db8::10]:9"), source: netip.MustParseAddr("2001:db8:1::2"), mac: v4.mac}
	l = load{Size: 1514, Flows: 1, Threads: 1, repeat: 8}
	want = `count 0
pkt_size 1514
clone_skb 8
dst_mac 02:00:00:00:00:01
udp_src_min 1024
udp_src_max 1025
udp_dst_min 9
udp_dst_max 9
dst6 2001:db8::10
src6 2001:db8:1::2
flag UDPCSUM
burst 8`
	if diff := cmp.Diff(want, strings.Join(l.commands(v6, 0), "\n")); diff != "" {
		t.Error(diff)
	}
}
