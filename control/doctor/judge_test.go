package doctor

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
)

// What the interfaces of a lab cannot be made to have: LRO, and receive rings.
func TestInterfacesOfHardware(t *testing.T) {
	for _, test := range []struct {
		name     string
		findings []Finding
		want     Severity
		command  string
	}{
		{"LRO", offloads{lro: true}.judge("eth0", false), Error, "ethtool -K eth0 lro off"},
		{"GRO, generic", offloads{gro: true}.judge("eth0", true), Warning, "ethtool -K eth0 gro off"},
		{"GRO, native", offloads{gro: true}.judge("eth0", false), OK, ""},
		{"short ring", ring{now: 256, most: 4096}.judge("eth0"), Info, "ethtool -G eth0 rx 4096"},
		{"full ring", ring{now: 4096, most: 4096}.judge("eth0"), OK, ""},
		{"no ring", ring{}.judge("eth0"), OK, ""},
	} {
		got := Finding{Severity: OK}
		if len(test.findings) > 0 {
			got = test.findings[0]
		}
		if got.Severity != test.want || got.Command != test.command {
			t.Errorf("%s: %+v, want %s, %q", test.name, got, test.want, test.command)
		}
	}
}

func TestMoveLocalPorts(t *testing.T) {
	for nat, want := range map[dataplane.PortRange]string{
		{First: 40000, Last: 50000}: "sysctl -w net.ipv4.ip_local_port_range='1024 39999'",
		{First: 1024, Last: 30000}:  "sysctl -w net.ipv4.ip_local_port_range='30001 65535'",
	} {
		if got := moveLocalPorts(nat); got != want {
			t.Errorf("%s: %q, want %q", nat, got, want)
		}
	}
}

func TestSoftLimit(t *testing.T) {
	text := []byte("Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max open files            1024                 524288               files     \n" +
		"Max locked memory         unlimited            unlimited            bytes     \n")
	for name, want := range map[string]uint64{"Max open files": 1024, "Max locked memory": unix.RLIM_INFINITY} {
		if got := softLimit(text, name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

func TestParseSocketAddress(t *testing.T) {
	words := func(address string) string { // as the kernel prints them on this machine
		const digits = "0123456789ABCDEF"
		var text []byte
		for word := range slices.Chunk(netip.MustParseAddr(address).AsSlice(), 4) {
			for _, b := range binary.BigEndian.AppendUint32(nil, binary.NativeEndian.Uint32(word)) {
				text = append(text, digits[b>>4], digits[b&15])
			}
		}
		return string(text)
	}
	for text, want := range map[string]string{
		words("203.0.113.10") + ":0050":     "203.0.113.10:80",
		words("2001:db8::1") + ":01BB":      "[2001:db8::1]:443",
		words("::ffff:192.0.2.1") + ":0035": "192.0.2.1:53",
		words("0.0.0.0") + ":FFFF":          "0.0.0.0:65535",
	} {
		if got, ok := parseSocketAddress(text); !ok || got.String() != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "zz:0050", "0100007F", "010000:0050"} {
		if got, ok := parseSocketAddress(text); ok {
			t.Errorf("%q: %s, want none", text, got)
		}
	}
}

// What answers a probe is told from everything else that reaches the socket.
func TestListen(t *testing.T) {
	syn := segment{
		source: netip.MustParseAddrPort("192.0.2.1:4000"), destination: netip.MustParseAddrPort("203.0.113.1:80"), sequence: 7, syn: true,
	}
	if h, ok := listen(syn.packet()); ok {
		t.Errorf("a SYN is no answer: %+v", h)
	}
	tunnelled := serialize(
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolIPv4, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}},
	)
	unreachable := serialize(
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: []byte{192, 0, 2, 2}, DstIP: []byte{192, 0, 2, 1}},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeProtocol)},
		gopacket.Payload(tunnelled),
	)
	want := heard{refuses: end{netip.MustParseAddr("192.0.2.2"), unix.IPPROTO_IPIP}}
	if h, ok := listen(unreachable); !ok || h != want {
		t.Errorf("%+v, want %+v", h, want)
	}
	for length := range unreachable {
		listen(unreachable[:length]) // does not panic
	}
	listen(bytes.Repeat([]byte{0xff}, 100))
}
