package dataplane

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// veth has native XDP, a tap interface without its owner's offload too, a bridge only generic XDP.
func TestAttach(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	bridge := setUp(t, "br0")
	native, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	if want := (Interface{Name: "eth0", Index: h.clients, Mode: XDPNative, Up: true}); !reflect.DeepEqual(native, want) {
		t.Errorf("eth0 is %+v", native)
	}
	generic, err := h.Attach("br0", XDPAuto)
	must(t, err)
	if generic.Mode != XDPGeneric || generic.Index != bridge || !strings.Contains(generic.Reason, "refuses native") {
		t.Errorf("br0 is %+v", generic)
	}
	if asked, err := h.Attach("eth1", XDPGeneric); err != nil || asked.Mode != XDPGeneric || asked.Reason != "asked for" {
		t.Errorf("eth1 is %+v, %v", asked, err)
	}
	for range 2 {
		if _, err := h.Attach("br0", XDPNative); err == nil || !strings.Contains(err.Error(), "xdp-mode auto") {
			t.Errorf("native XDP on a bridge: error is %v", err)
		}
	}
	if !hasXDP(t, "br0") {
		t.Error("the bridge has lost the program to a mode that it does not have")
	}
	must(t, h.Detach("br0"))
	if _, err := h.Attach("eth9", XDPAuto); err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("no such interface: error is %v", err)
	}
	if list := h.Interfaces(); len(list) != 2 || list[0].Name != "eth0" || list[1].Name != "eth1" {
		t.Errorf("interfaces are %+v", list)
	}
}

// Another tool's program is left alone.
func TestAttachBusy(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	must(t, err)
	defer other.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: other, Interface: h.clients})
	must(t, err)
	defer l.Close()
	if _, err := h.Attach("eth0", XDPAuto); err == nil || !strings.Contains(err.Error(), "another XDP program") {
		t.Errorf("error is %v", err)
	}
}

// The programs stay when the process lets go of them, and the next one takes them over.
func TestAttachSurvives(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	_, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	must(t, h.Close())
	if !hasXDP(t, "eth0") {
		t.Fatal("the program is gone")
	}
	d := openTest(t, options)
	if list := d.Interfaces(); len(list) != 1 || list[0].Index != h.clients {
		t.Errorf("adopted interfaces are %+v", list)
	}
	_, err = d.Attach("eth0", XDPAuto)
	must(t, err)
	must(t, d.Detach("eth0"))
	if hasXDP(t, "eth0") {
		t.Error("the program is still there")
	}
}

// An interface that was removed and made anew is attached to anew.
func TestAttachComesBack(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	_, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkDel(eth0))
	if list := h.Interfaces(); len(list) != 1 || list[0].Up {
		t.Errorf("without the interface: %+v", list)
	}
	index := addInterface(t, "eth0", clientsMAC)
	if i, err := h.Attach("eth0", XDPAuto); err != nil || i.Index != index || !hasXDP(t, "eth0") {
		t.Errorf("attached to %+v, %v", i, err)
	}
}

// Another mode than the one that the program is there in is had by attaching it anew; auto takes what is there.
func TestAttachInOtherMode(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	for _, step := range []struct{ ask, want XDPMode }{
		{XDPAuto, XDPNative}, {XDPGeneric, XDPGeneric}, {XDPAuto, XDPGeneric}, {XDPNative, XDPNative}, {XDPNative, XDPNative},
	} {
		i, err := h.Attach("eth0", step.ask)
		if err != nil || i.Mode != step.want || len(h.Interfaces()) != 1 {
			t.Errorf("asked for %s: %+v, %v", step.ask, i, err)
		}
		must(t, h.Close())
		h.Dataplane = openTest(t, options)
	}
}

// An interface that was renamed keeps its program, for the process that attached it and for the next one, and so
// does one that got the old name.
func TestAttachRenamed(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	_, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	_, err = h.Attach("eth1", XDPAuto)
	must(t, err)
	before := programOn(t, "eth0")
	rename(t, "eth0", "wan.0")
	rename(t, "eth1", "eth0")
	wantNamed := func() {
		t.Helper()
		if list := h.Interfaces(); len(list) != 2 || list[0].Index != h.servers || list[0].Name != "eth0" || list[1].Index != h.clients || list[1].Name != "wan.0" {
			t.Errorf("interfaces are %+v", list)
		}
	}
	wantNamed()
	must(t, h.Close())
	h.Dataplane = openTest(t, options)
	wantNamed()
	for _, name := range []string{"wan.0", "eth0"} {
		if _, err := h.Attach(name, XDPAuto); err != nil || programOn(t, name) == before {
			t.Errorf("the program on %s was not replaced: %v", name, err)
		}
	}
	wantNamed()
	must(t, h.Detach("wan.0"))
	must(t, h.Detach("eth0"))
	if hasXDP(t, "wan.0") || hasXDP(t, "eth0") {
		t.Error("a program is still there")
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	l, err := netlink.LinkByName(from)
	must(t, err)
	must(t, netlink.LinkSetDown(l)) // as kernels before 6.2 want it
	must(t, netlink.LinkSetName(l, to))
	must(t, netlink.LinkSetUp(l))
}

// programOn is the ID of the program on an interface.
func programOn(t *testing.T, name string) uint32 {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Xdp.ProgId
}

// An interface that is attached to while a capture runs has its packets shown, and the usual program after it.
func TestAttachDuringCapture(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	id := func(p *ebpf.Program) ebpf.ProgramID {
		info, err := p.Info()
		must(t, err)
		id, _ := info.ID()
		return id
	}
	_, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	c, err := h.Capture(Filter{})
	must(t, err)
	shows := id(c.objects.ShownBalancer)
	for _, name := range []string{"eth0", "eth1"} {
		_, err = h.Attach(name, XDPAuto)
		must(t, err)
		if got := ebpf.ProgramID(programOn(t, name)); got != shows {
			t.Errorf("%s has program %d, and %d shows packets", name, got, shows)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	must(t, c.Run(ended, nil))
	for _, name := range []string{"eth0", "eth1"} {
		if got := ebpf.ProgramID(programOn(t, name)); got != id(h.objects.Balancer) {
			t.Errorf("after the capture %s has program %d", name, got)
		}
	}
}

// A first start that comes to nothing leaves nothing, so the next one may have other limits; what is used stays.
func TestFirstStartFails(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	if _, err := h.Attach("eth9", XDPAuto); err == nil {
		t.Fatal("attached to an interface that is not there")
	}
	must(t, h.Close())
	if _, err := os.Stat(options.PinPath); !os.IsNotExist(err) {
		t.Errorf("the pin path is still there: %v", err)
	}
	options.Limits.Flows *= 2
	d := openTest(t, options)
	_, err := d.Attach("eth0", XDPAuto)
	must(t, err)
	must(t, d.Close())
	d = openTest(t, options)
	must(t, d.Detach("eth0"))
	must(t, d.Close())
	if !isPinnedTo(options.PinPath) {
		t.Error("what an earlier process pinned is gone")
	}
}

func hasXDP(t *testing.T, name string) bool {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached
}

func TestOutside(t *testing.T) {
	for _, test := range []struct{ local, want PortRange }{
		{PortRange{32768, 60999}, PortRange{1024, 32767}},
		{PortRange{1024, 40000}, PortRange{40001, 65535}},
		{PortRange{10000, 20000}, PortRange{20001, 65535}},
	} {
		if got, err := outside(test.local); err != nil || got != test.want {
			t.Errorf("outside %s is %s, %v, want %s", test.local, got, err, test.want)
		}
	}
	if _, err := outside(PortRange{1024, 65535}); err == nil {
		t.Error("no port is left, and no error says so")
	}
}

func TestPinPath(t *testing.T) {
	for _, path := range []string{"relative", t.TempDir()} {
		options := testOptions(t)
		options.PinPath = path
		if _, err := Open(options); err == nil || errors.Is(err, ErrIncompatible) {
			t.Errorf("pin path %s: error is %v", path, err)
		}
	}
}
