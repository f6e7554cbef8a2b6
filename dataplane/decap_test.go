package dataplane

import (
	"testing"
)

// The backend's side: what ipip wrapped comes out as it was, but for congestion marks.
func TestDecap(t *testing.T) {
	inNamespace(t)
	ifindex := addInterface(t, "eth0", serverMAC(11))
	var objects decapObjects
	must(t, loadDecapObjects(&objects, nil))
	defer objects.Close()
	inner4, inner6 := fromClient(ProtocolTCP, client4, service4), fromClient(ProtocolUDP, client6, service6)
	inner6.dport = 53
	for name, p := range map[string]packet{
		"4in4": inner4.inside("198.51.100.1", "198.51.100.11"),
		"6in4": inner6.inside("198.51.100.1", "198.51.100.11"),
		"4in6": inner4.inside("2001:db8:2::1", "2001:db8:2::b"),
		"6in6": inner6.inside("2001:db8:2::1", "2001:db8:2::b"),

		"4 in gue in 4": inner4.insideGUE("198.51.100.1", "198.51.100.11"),
		"6 in gue in 4": inner6.insideGUE("198.51.100.1", "198.51.100.11"),
		"4 in gue in 6": inner4.insideGUE("2001:db8:2::1", "2001:db8:2::b"),
		"6 in gue in 6": inner6.insideGUE("2001:db8:2::1", "2001:db8:2::b"),
	} {
		for tags := range 3 {
			p := p.tagged([]uint16{7, 8}[:tags]...)
			want := p
			want.outer = nil
			action, out, err := runProgram(objects.Decap, ifindex, p.frame(t))
			must(t, err)
			wantAction(t, action, xdpPass)
			t.Log(name, tags)
			wantFrame(t, out, want.frame(t))
		}
	}
}

// Congestion experienced on the way goes on to the inner packet (RFC 6040, section 4.2, figure 4).
func TestDecapCongestion(t *testing.T) {
	inNamespace(t)
	ifindex := addInterface(t, "eth0", serverMAC(11))
	var objects decapObjects
	must(t, loadDecapObjects(&objects, nil))
	defer objects.Close()
	for _, client := range []struct{ from, to string }{{client4, service4}, {client6, service6}} {
		for tos, want := range map[uint8]int{0: -1, 1: 3, 2: 3, 3: 3} {
			p := fromClient(ProtocolTCP, client.from, client.to)
			p.tos = 0xb8 | tos
			p = p.inside("198.51.100.1", "198.51.100.11")
			frame := p.frame(t)
			markOuter(frame)
			action, out, err := runProgram(objects.Decap, ifindex, frame)
			must(t, err)
			if want < 0 {
				wantAction(t, action, xdpDrop)
				continue
			}
			wantAction(t, action, xdpPass)
			p.outer, p.tos = nil, 0xb8|uint8(want)
			wantFrame(t, out, p.frame(t))
		}
	}
}

// markOuter sets both ECN bits of an outer IPv4 header; the program does not look at its checksum.
func markOuter(frame []byte) { frame[14+1] |= 3 }

// What is no tunnel's packet is left alone.
func TestDecapPass(t *testing.T) {
	inNamespace(t)
	ifindex := addInterface(t, "eth0", serverMAC(11))
	var objects decapObjects
	must(t, loadDecapObjects(&objects, nil))
	defer objects.Close()
	fragment := fromClient(ProtocolTCP, client4, service4).inside("198.51.100.1", "198.51.100.11").frame(t)
	fragment[14+6] |= 0x20
	gue := func(place int, value byte) []byte { // with one byte of its 12 changed
		frame := fromClient(ProtocolTCP, client4, service4).insideGUE("198.51.100.1", "198.51.100.11").frame(t)
		frame[14+20+place] = value
		return frame
	}
	for name, frame := range map[string][]byte{
		"another UDP port": gue(3, 1),
		"gue variant 1":    gue(8, 0x40),
		"gue control":      gue(8, 0x20),
		"gue options":      gue(8, 1),
		"gue flags":        gue(10, 1),
		"gue of ICMP":      gue(9, 1),
		"cut gue":          gue(0, 0)[:14+20+11],

		"TCP":      fromClient(ProtocolTCP, client4, service4).frame(t),
		"TCP 6":    fromClient(ProtocolTCP, client6, service6).frame(t),
		"fragment": fragment,
		"cut":      fragment[:14+10],
	} {
		action, out, err := runProgram(objects.Decap, ifindex, frame)
		must(t, err)
		wantAction(t, action, xdpPass)
		t.Log(name)
		wantFrame(t, out, frame)
	}
}

// The command's half: the program stays on the interface until it is taken off.
func TestAttachDecap(t *testing.T) {
	options := testOptions(t)
	inNamespace(t)
	addInterface(t, "eth0", serverMAC(11))
	for range 2 {
		i, err := AttachDecap("eth0", XDPAuto, options.PinPath)
		must(t, err)
		if i.Mode != XDPNative || !hasXDP(t, "eth0") {
			t.Fatalf("attached as %+v", i)
		}
	}
	rename(t, "eth0", "eth1")
	if _, err := AttachDecap("eth1", XDPAuto, options.PinPath); err != nil {
		t.Errorf("attaching again under another name: %v", err)
	}
	must(t, DetachDecap("eth1", options.PinPath))
	rename(t, "eth1", "eth0")
	if hasXDP(t, "eth0") {
		t.Error("the program is still there")
	}
	if err := DetachDecap("eth0", options.PinPath); err == nil {
		t.Error("detaching what is not there is no error")
	}
}
