package dataplane

import (
	"errors"
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
	if _, err := h.Attach("br0", XDPNative); err != nil {
		t.Errorf("attaching again keeps what is there: %v", err)
	}
	must(t, h.Detach("br0"))
	if _, err := h.Attach("br0", XDPNative); err == nil || !strings.Contains(err.Error(), "xdp-mode auto") {
		t.Errorf("native XDP on a bridge: error is %v", err)
	}
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
