package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a marked socket sends leaves as the balancer would send it to the same backend.
func TestProbeFrames(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	frames := captureFrames(t, "eth1-peer")
	for _, test := range []struct {
		mode            Mode
		target, backend string
	}{
		{ModeL2, service4, "198.51.100.11"}, {ModeL2, service6, "2001:db8:2::b"},
		{ModeIPIP, service4, "198.51.100.11"}, {ModeIPIP, service6, "198.51.100.11"},
		{ModeIPIP, service4, "2001:db8:2::b"}, {ModeIPIP, service6, "2001:db8:2::b"},
		{ModeGUE, service4, "198.51.100.11"}, {ModeGUE, service6, "198.51.100.11"},
		{ModeGUE, service4, "2001:db8:2::b"}, {ModeGUE, service6, "2001:db8:2::b"},
	} {
		for _, vlans := range [][]uint16{nil, {20}, {30, 40}} {
			t.Run(fmt.Sprint(test.mode, " ", test.target, " over ", test.backend, " ", vlans), func(t *testing.T) {
				h := h.here(t)
				s := oneBackend(ProtocolUDP, test.target, test.mode, test.backend, 0)
				h.set(t, s)
				status, _ := h.ServiceStatus(s.ServiceKey)
				hop := status.Backends[0].NextHop
				hop.VLANs = vlans
				h.hopChanged(addr(test.backend), &hop)
				mark, err := h.ProbeMark(s.ServiceKey, s.Backends[0].endpoint())
				must(t, err)
				source, err := h.ProbeSource(s.ServiceKey, s.Backends[0].endpoint())
				must(t, err)
				sendMarked(t, mark, source, netip.AddrPortFrom(s.Address, s.Port), "a probe")
				sent := frames.next(t, serverMAC(11))

				header := map[bool]int{true: 20, false: 40}[s.Address.Is4()]
				inner := sent[len(sent)-header-8-len("a probe"):]
				link := binary.BigEndian.AppendUint16(sent[:12:12], uint16(etherType(s.Address)))
				_, want := h.receive(t, h.clients, append(link, inner...))
				wantFrame(t, withoutHash(sent, len(vlans), test.mode), withoutHash(want, len(vlans), test.mode))
			})
		}
	}
}

// withoutHash is a copy of a frame without what the hash of the flow decides.
func withoutHash(frame []byte, vlans int, mode Mode) []byte {
	frame = append([]byte(nil), frame...)
	l3 := 14 + 4*vlans
	outer := 20
	if frame[l3]>>4 == 6 {
		outer = 40
		if mode != ModeL2 {
			copy(frame[l3+1:l3+4], []byte{frame[l3+1] & 0xf0, 0, 0})
		}
	}
	if mode == ModeGUE {
		frame[l3+outer] &= 0xc0
		frame[l3+outer+1] = 0
	}
	return frame
}

// sendMarked sends a datagram from a socket with a mark, bound to an address, with DSCP and ECN.
func sendMarked(t *testing.T, mark uint32, source netip.Addr, target netip.AddrPort, payload string) {
	t.Helper()
	const traffic = 0xb9
	socket, err := unix.Socket(family(source), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(socket)
	must(t, unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
	if source.Is4() {
		must(t, unix.SetsockoptInt(socket, unix.IPPROTO_IP, unix.IP_TOS, traffic))
	} else {
		must(t, unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, traffic))
	}
	must(t, unix.Bind(socket, socketAddress(netip.AddrPortFrom(source, 0))))
	must(t, unix.Sendto(socket, []byte(payload), 0, socketAddress(target)))
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// frameCapture is a packet socket.
type frameCapture int

// captureFrames begins to capture what arrives on an interface.
func captureFrames(t *testing.T, name string) frameCapture {
	t.Helper()
	netdev, err := net.InterfaceByName(name)
	must(t, err)
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(socket) })
	must(t, unix.SetsockoptInt(socket, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	must(t, unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	must(t, unix.Bind(socket, &unix.SockaddrLinklayer{Protocol: network16(unix.ETH_P_ALL), Ifindex: netdev.Index}))
	return frameCapture(socket)
}

// next returns the next frame to an address. The kernel shows the outer tag beside the frame; here it is back.
func (c frameCapture) next(t *testing.T, to net.HardwareAddr) []byte {
	t.Helper()
	for {
		frame, control := make([]byte, 2048), make([]byte, 128)
		n, controls, _, _, err := unix.Recvmsg(int(c), frame, control, 0)
		if err != nil {
			t.Fatalf("waiting for a frame to %s: %v", to, err)
		}
		if string(frame[:6]) != string(to) {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:controls])
		must(t, err)
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&messages[0].Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
			return frame[:n]
		}
		tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid), aux.Vlan_tci)
		return append(frame[:12:12], append(tag, frame[12:n]...)...)
	}
}

// What cannot be probed is refused with its reason.
func TestProbeMarkRefuses(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	direct := oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 0)
	nat := oneBackend(ProtocolTCP, service4, ModeNAT, "198.51.100.11", 80)
	own := oneBackend(ProtocolUDP, "192.0.2.1", ModeL2, "198.51.100.11", 0)
	own6 := oneBackend(ProtocolUDP, "2001:db8:1::1", ModeL2, "2001:db8:2::b", 0)
	for _, s := range []Service{direct, nat, own, own6} {
		h.set(t, s)
	}
	lost := oneBackend(ProtocolUDP, "192.0.2.101", ModeIPIP, "203.0.113.1", 0)
	must(t, h.SetService(lost))
	unknown := ServiceKey{Address: addr("192.0.2.102"), Port: 80, Protocol: ProtocolUDP}
	for name, test := range map[string]struct {
		key     ServiceKey
		backend netip.AddrPort
		want    string
	}{
		"no service":          {unknown, direct.Backends[0].endpoint(), "has no backend"},
		"no backend":          {direct.ServiceKey, netip.MustParseAddrPort("198.51.100.12:0"), "has no backend 198.51.100.12:0"},
		"nat":                 {nat.ServiceKey, nat.Backends[0].endpoint(), "mode nat"},
		"no next hop":         {lost.ServiceKey, lost.Backends[0].endpoint(), "no route to 203.0.113.1"},
		"own address":         {own.ServiceKey, own.Backends[0].endpoint(), "`ip rule add pref 32765 table local; ip rule del pref 0`"},
		"own address, IPv6":   {own6.ServiceKey, own6.Backends[0].endpoint(), "`ip -6 rule add pref 32765 table local; ip -6 rule del pref 0`"},
		"none of these is it": {direct.ServiceKey, direct.Backends[0].endpoint(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			mark, err := h.ProbeMark(test.key, test.backend)
			if test.want == "" {
				if err != nil || mark&^probeIndex != DefaultProbePath.Mark || mark&probeIndex == 0 {
					t.Errorf("mark %#x, error %v", mark, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || mark != 0 {
				t.Errorf("mark %#x, error %v, want one with %q", mark, err, test.want)
			}
		})
	}
	must(t, h.Close())
	if _, err := h.ProbeMark(direct.ServiceKey, direct.Backends[0].endpoint()); !errors.Is(err, errProbesClosed) {
		t.Errorf("after Close: error is %v", err)
	}
}

func TestProbePathCheck(t *testing.T) {
	inNamespace(t)
	for want, path := range map[string]ProbePath{
		"mark 0x51c00001 is no multiple of 0x100000": {Mark: 0x51c00001},
		"table 254 is the kernel's own":              {Table: 254},
		"table 2147483648 is not within":             {Table: 1 << 31},
		"priority 32766 is not within 1..32765":      {Priority: 32766},
	} {
		options := testOptions(t)
		options.ProbePath = path
		if _, err := Open(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error is %v, want one with %q", path, err, want)
		}
	}
	if err := (ProbePath{Mark: 0x51d00000, Table: 1, Priority: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// probePieces lists what there is for probes in this namespace.
func probePieces(t *testing.T) (pieces []string) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "sluice-") {
			pieces = append(pieces, link.Attrs().Name)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := netlink.RuleList(family)
		must(t, err)
		for _, rule := range rules {
			if rule.Protocol == probeProtocol {
				pieces = append(pieces, fmt.Sprintf("rule %#x to %d", rule.Mark, rule.Table))
			}
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: probeProtocol, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		must(t, err)
		for _, route := range routes {
			pieces = append(pieces, fmt.Sprintf("route in %d", route.Table))
		}
	}
	return pieces
}

func wantPieces(t *testing.T, want ...string) {
	t.Helper()
	if got := probePieces(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("for probes there is %v, want %v", got, want)
	}
}

// probed4 and probed6 are services whose backends can be probed.
var (
	probed4 = oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 0)
	probed6 = oneBackend(ProtocolUDP, service6, ModeL2, "2001:db8:2::b", 0)
)

// probe sends a probe for a service and wants it to leave.
func (h *testHost) probe(t *testing.T, s Service) {
	t.Helper()
	frames := captureFrames(t, "eth1-peer")
	mark, err := h.ProbeMark(s.ServiceKey, s.Backends[0].endpoint())
	must(t, err)
	source, err := h.ProbeSource(s.ServiceKey, s.Backends[0].endpoint())
	must(t, err)
	sendMarked(t, mark, source, netip.AddrPortFrom(s.Address, s.Port), "a probe")
	frames.next(t, serverMAC(11))
}

// Nothing is made for hosts that send no probes, and for each family only when it is probed; Unload removes all.
func TestProbePathComesAndGoes(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	h.set(t, probed4)
	h.set(t, probed6)
	wantPieces(t)
	h.probe(t, probed4)
	rule, route := "rule 0x51c00000 to 20928", "route in 20928"
	wantPieces(t, "sluice-51c0-far", "sluice-51c0", rule, route)
	h.probe(t, probed6)
	wantPieces(t, "sluice-51c0-far", "sluice-51c0", rule, route, rule, route)
	must(t, h.Close())
	wantPieces(t, "sluice-51c0-far", "sluice-51c0", rule, route, rule, route)
	must(t, Unload(options.PinPath))
	wantPieces(t)
}

// What somebody takes away is made again.
func TestProbePathHeals(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, probed4)
	h.set(t, probed6)
	for name, harm := range map[string]func() error{
		"no device": func() error { return netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sluice-51c0"}}) },
		"down": func() error {
			return netlink.LinkSetDown(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sluice-51c0"}})
		},
		"no rules": func() error { return errors.Join(flushRules(unix.AF_INET), flushRules(unix.AF_INET6)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			h.probe(t, probed4)
			h.probe(t, probed6)
			must(t, harm())
			clear(h.probes.checked) // as if time had passed
			h.probe(t, probed4)
			h.probe(t, probed6)
		})
	}
}

func flushRules(family int) error {
	rules, err := netlink.RuleList(family)
	errs := []error{err}
	for _, rule := range rules {
		if rule.Protocol == probeProtocol {
			errs = append(errs, netlink.RuleDel(&rule))
		}
	}
	return errors.Join(errs...)
}

// A process may be killed at any moment while it makes the way: the next one makes it anew, and Unload removes
// whatever is there.
func TestProbePathLeftOver(t *testing.T) {
	veth := func(alias string) error {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sluice-51c0"}, PeerName: "sluice-51c0-far"}
		return errors.Join(netlink.LinkAdd(link), netlink.LinkSetAlias(link, alias))
	}
	rule := func() error {
		rule, mask := netlink.NewRule(), ^uint32(probeIndex)
		rule.Family, rule.Mark, rule.Mask, rule.Table = unix.AF_INET, 0x51c00000, &mask, 777
		rule.Priority, rule.Protocol = 52, probeProtocol
		return netlink.RuleAdd(rule)
	}
	for name, leave := range map[string]func(pins string) error{
		"device without a program": veth,
		"device without a name":    func(string) error { return veth("") },
		"another table":            func(string) error { return rule() },
		"all of it":                func(pins string) error { return errors.Join(veth(pins), rule()) },
	} {
		t.Run(name, func(t *testing.T) {
			options := testOptions(t)
			h := newTestHost(t, options)
			h.set(t, probed4)
			must(t, leave(options.PinPath))
			h.probe(t, probed4)
			wantPieces(t, "sluice-51c0-far", "sluice-51c0", "rule 0x51c00000 to 20928", "route in 20928")
			must(t, h.Close())
			must(t, errors.Join(Unload(options.PinPath), leave(options.PinPath), Unload(options.PinPath)))
			wantPieces(t)
		})
	}
}

// Two dataplanes in one namespace need marks of their own, and then leave each other alone.
func TestProbePathOfTwo(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.set(t, probed4)
	h.probe(t, probed4)
	options := testOptions(t)
	second := &testHost{Dataplane: openTest(t, options)}
	second.set(t, probed4)
	_, err := second.ProbeMark(probed4.ServiceKey, probed4.Backends[0].endpoint())
	if want := "sluice-51c0 belongs to the daemon with the pin path " + h.options.PinPath; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the same mark: error is %v, want one with %q", err, want)
	}
	h.probe(t, probed4)
	must(t, second.Close())

	options.ProbePath = ProbePath{Mark: 0x51d00000, Table: DefaultProbePath.Table}
	second = &testHost{Dataplane: openTest(t, options)}
	second.set(t, probed4)
	_, err = second.ProbeMark(probed4.ServiceKey, probed4.Backends[0].endpoint())
	if want := "table 20928 has other routes"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the same table: error is %v, want one with %q", err, want)
	}
	h.probe(t, probed4)
	must(t, second.Close())

	options.ProbePath.Table = 0
	second = &testHost{Dataplane: openTest(t, options)}
	second.set(t, probed4)
	second.probe(t, probed4)
	h.probe(t, probed4)
	must(t, second.Close())
	must(t, Unload(options.PinPath))
	clear(h.probes.checked)
	h.probe(t, probed4)
	wantPieces(t, "sluice-51c0-far", "sluice-51c0", "rule 0x51c00000 to 20928", "route in 20928")
}
