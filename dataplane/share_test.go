//go:build vm

package dataplane

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane/dispatcher"
)

// Interfaces that are shared with xdp-filter of xdp-tools, which brings libxdp. Not every kernel can replace
// functions of programs (BPF_PROG_TYPE_EXT), so these tests run under Debian's.

// How interfaces look.
var (
	balancerOnly = []XDPProgram{{"balancer", 50}}
	filterOnly   = []XDPProgram{{"xdpfilt_alw_udp", 10}}
	both         = append(filterOnly[:1:1], balancerOnly...)
)

// sharingOptions are options of a host whose interfaces are shared, after a folder of its own.
func sharingOptions(t testing.TB) Options {
	t.Helper()
	path := filepath.Join(bpffs, "sluice-share-test")
	must(t, os.MkdirAll(path, 0o700))
	t.Cleanup(func() { must(t, os.RemoveAll(path)) })
	t.(*testing.T).Setenv("LIBXDP_BPFFS", path)
	options := testOptions(t)
	options.Share, options.Priority = true, dispatcher.DefaultPriority
	return options
}

// tool runs one of xdp-tools in the namespace of this thread.
func tool(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// loadFilter drops UDP to port 9.
func loadFilter(t testing.TB) {
	t.Helper()
	tool(t, "xdp-filter load eth0 -p allow -f udp")
	tool(t, "xdp-filter port -p udp -m dst 9")
}

// onInterface reads what runs there, and checks that nothing else is kept.
func onInterface(t testing.TB, name string) (programs []XDPProgram) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	there, err := dispatcher.Read(l.Attrs().Index)
	must(t, err)
	defer there.Close()
	for _, p := range there.Programs {
		programs = append(programs, XDPProgram{p.Name, p.Priority})
	}
	if folders := keptFolders(t); len(folders) != min(len(programs), 1) {
		t.Errorf("%d programs run, kept are %v", len(programs), folders)
	}
	return programs
}

// wantShared checks what runs on eth0 and what it does.
func (h *testHost) wantShared(t testing.TB, want []XDPProgram) {
	t.Helper()
	if got := onInterface(t, "eth0"); !reflect.DeepEqual(got, want) {
		t.Fatalf("on eth0 are %v, want %v", got, want)
	}
	wantWeb, wantNine := "pass", "pass"
	for _, p := range want {
		switch p.Name {
		case "balancer":
			wantWeb = "redirect"
		case filterOnly[0].Name:
			wantNine = "drop"
		}
	}
	web := fromClient(ProtocolUDP, client4, service4)
	nine := web
	nine.dport = 9
	if got := receiveAll(t, "eth0", web.frame(t)); got != wantWeb {
		t.Errorf("with %v, a packet for the service: %s, want %s", want, got, wantWeb)
	}
	if got := receiveAll(t, "eth0", nine.frame(t)); got != wantNine {
		t.Errorf("with %v, a packet to port 9: %s, want %s", want, got, wantNine)
	}
}

// receiveAll gives a frame to all that is on an interface.
func receiveAll(t testing.TB, name string, frame []byte) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(l.Attrs().Xdp.ProgId))
	must(t, err)
	defer p.Close()
	action, _, err := runProgram(p, l.Attrs().Index, frame)
	must(t, err)
	return actionNames[action]
}

func newSharingHost(t *testing.T) *testHost {
	h := newTestHost(t, sharingOptions(t))
	h.set(t, oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80))
	return h
}

func (h *testHost) attachShared(t testing.TB, want []XDPProgram) {
	t.Helper()
	i, err := h.Attach("eth0", XDPAuto)
	must(t, err)
	if i.Mode != XDPNative || i.Reason != "" || !reflect.DeepEqual(i.Programs, want) {
		t.Errorf("attached: %+v, want it native with %v", i, want)
	}
	h.wantShared(t, want)
}

// restart has another process take over.
func (h *testHost) restart(t testing.TB) {
	t.Helper()
	must(t, h.Close())
	h.Dataplane = openTest(t, h.options)
	h.openDevice(h.clients)
	h.set(t, oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80))
}

// Who comes first makes no difference, nor who goes first; a restart changes nothing.
func TestShareOrder(t *testing.T) {
	able := toolsAreAble(t)
	t.Log("xdp-tools can move a program that changes packets:", able)
	// byTool runs a command of a tool. One that is not able fails and changes nothing.
	byTool := func(t *testing.T, h *testHost, command string, before, after []XDPProgram) bool {
		t.Helper()
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if able != (err == nil) {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		if !able {
			after = before
		}
		h.wantShared(t, after)
		return able
	}
	const load = "xdp-filter load eth0 -p allow -f udp && xdp-filter port -p udp -m dst 9"
	t.Run("the balancer first", func(t *testing.T) {
		h := newSharingHost(t)
		h.attachShared(t, balancerOnly)
		if byTool(t, h, load, balancerOnly, both) {
			must(t, h.Detach("eth0"))
			h.wantShared(t, filterOnly)
			tool(t, "xdp-filter unload eth0")
		}
	})
	t.Run("the other first", func(t *testing.T) {
		h := newSharingHost(t)
		loadFilter(t)
		h.attachShared(t, both)
		if list := h.Interfaces(); len(list) != 1 || !reflect.DeepEqual(list[0].Programs, both) {
			t.Errorf("interfaces are %+v", list)
		}
		if status := tool(t, "xdp-loader status eth0"); !strings.Contains(status, "balancer") || !strings.Contains(status, "xdpfilt_alw_udp") {
			t.Errorf("xdp-loader sees %s", status)
		}
		h.restart(t)
		h.wantShared(t, both)
		if list := h.Interfaces(); len(list) != 1 || list[0].Name != "eth0" {
			t.Errorf("adopted interfaces are %+v", list)
		}
		h.attachShared(t, both)
		if byTool(t, h, "xdp-filter unload eth0", both, balancerOnly) {
			loadFilter(t)
			h.wantShared(t, both)
		}
		must(t, h.Detach("eth0"))
		h.wantShared(t, filterOnly)
		tool(t, "xdp-filter unload eth0")
		if hasXDP(t, "eth0") {
			t.Error("a program is left")
		}
	})
}

// toolsAreAble tells whether the dispatcher of the libxdp that is installed can have a program that changes
// packets. Since Linux 6.13, and stable ones before, that of libxdp before 1.5.8 cannot.
func toolsAreAble(t *testing.T) bool {
	t.Helper()
	objects, err := filepath.Glob("/usr/lib/*/bpf/xdp-dispatcher.o")
	if err != nil || len(objects) != 1 {
		t.Fatalf("the dispatcher of libxdp: %v, %v", objects, err)
	}
	spec, err := ebpf.LoadCollectionSpec(objects[0])
	must(t, err)
	theirs, err := ebpf.NewCollection(spec)
	must(t, err)
	defer theirs.Close()
	spec, err = loadDecap()
	must(t, err)
	decap := spec.Programs["decap"]
	decap.Type, decap.AttachType = ebpf.Extension, ebpf.AttachNone
	decap.AttachTarget, decap.AttachTo = theirs.Programs["xdp_dispatcher"], "xdp_dispatcher"
	ours, err := ebpf.NewCollection(spec)
	if err == nil {
		ours.Close()
	}
	return err == nil
}

// What is taken out of the kernel is the balancer alone.
func TestShareUnload(t *testing.T) {
	h := newSharingHost(t)
	loadFilter(t)
	h.attachShared(t, both)
	must(t, h.Close())
	must(t, Unload(h.options.PinPath))
	h.wantShared(t, filterOnly)
	tool(t, "xdp-filter unload eth0")
}

// Without the option nobody's programs are touched, and the error names them and the way out.
func TestShareNotAsked(t *testing.T) {
	options := sharingOptions(t)
	options.Share = false
	h := newTestHost(t, options)
	loadFilter(t)
	_, err := h.Attach("eth0", XDPAuto)
	if err == nil || !strings.Contains(err.Error(), "xdpfilt_alw_udp") || !strings.Contains(err.Error(), "xdp-share: true") {
		t.Errorf("error is %v", err)
	}
	h.wantShared(t, filterOnly)
	tool(t, "xdp-filter unload eth0")
	i, err := h.Attach("eth0", XDPAuto)
	if err != nil || i.Programs != nil {
		t.Errorf("alone on it: %+v, %v", i, err)
	}
}

// The option can be set and unset while the balancer is attached.
func TestShareConverts(t *testing.T) {
	h := newSharingHost(t)
	h.attachShared(t, balancerOnly)
	for _, share := range []bool{false, true, false} {
		h.options.Share = share
		h.restart(t)
		i, err := h.Attach("eth0", XDPAuto)
		must(t, err)
		if shared := i.Programs != nil; shared != share {
			t.Errorf("shared is %v, want %v", shared, share)
		}
		if got := receiveAll(t, "eth0", fromClient(ProtocolUDP, client4, service4).frame(t)); got != "redirect" {
			t.Errorf("with sharing %v a packet ends as %s", share, got)
		}
	}
	h.options.Share = true
	h.restart(t)
	must(t, h.Detach("eth0"))
	loadFilter(t)
	h.attachShared(t, both)
	h.options.Share = false
	h.restart(t)
	if _, err := h.Attach("eth0", XDPAuto); err == nil || !strings.Contains(err.Error(), "xdpfilt_alw_udp") {
		t.Errorf("error is %v", err)
	}
	h.wantShared(t, both)
	must(t, h.Detach("eth0"))
	tool(t, "xdp-filter unload eth0")
}

// Generic mode is shared too, and stays what it is.
func TestShareGeneric(t *testing.T) {
	h := newSharingHost(t)
	tool(t, "xdp-filter load eth0 -m skb -p allow -f udp")
	tool(t, "xdp-filter port -p udp -m dst 9")
	i, err := h.Attach("eth0", XDPAuto)
	if err != nil || i.Mode != XDPGeneric || i.Reason != "as the programs that share it" {
		t.Errorf("attached: %+v, %v", i, err)
	}
	h.wantShared(t, both)
	if _, err := h.Attach("eth0", XDPNative); err == nil || !strings.Contains(err.Error(), "xdp-mode") {
		t.Errorf("native among generic ones: error is %v", err)
	}
	must(t, h.Detach("eth0"))
	tool(t, "xdp-filter unload eth0")
	if i, err = h.Attach("eth0", XDPGeneric); err != nil || i.Mode != XDPGeneric || i.Reason != "asked for" {
		t.Errorf("first there: %+v, %v", i, err)
	}
	if i, err = h.Attach("eth0", XDPNative); err != nil || i.Mode != XDPNative {
		t.Errorf("alone there, in another mode: %+v, %v", i, err)
	}
}

// A capture shows packets on a shared interface, and leaves it as it was.
func TestShareCapture(t *testing.T) {
	h := newSharingHost(t)
	loadFilter(t)
	h.attachShared(t, both)
	c, err := h.Capture(Filter{})
	must(t, err)
	frame := fromClient(ProtocolUDP, client4, service4).frame(t)
	receiveAll(t, "eth0", frame)
	must(t, c.Run(context.Background(), func(shown Captured) bool {
		if shown.Interface != "eth0" || shown.Reason != "to_backend" || string(shown.Before) != string(frame) {
			t.Errorf("shown is %+v", shown)
		}
		return false
	}))
	h.wantShared(t, both)
	must(t, h.Detach("eth0"))
	tool(t, "xdp-filter unload eth0")
}

// Another tool may take everything off; the balancer comes back when it is attached again.
func TestShareTakenOff(t *testing.T) {
	h := newSharingHost(t)
	loadFilter(t)
	h.attachShared(t, both)
	tool(t, "xdp-loader unload eth0 --all")
	if list := h.Interfaces(); len(list) != 1 || list[0].Index != 0 || list[0].Up || !strings.Contains(list[0].Reason, "took the balancer off") {
		t.Errorf("interfaces are %+v", list)
	}
	h.attachShared(t, balancerOnly)
}

// Programs that are not libxdp's cannot be shared with; they stay.
func TestShareOther(t *testing.T) {
	h := newSharingHost(t)
	t.Setenv("LIBXDP_SKIP_DISPATCHER", "1")
	tool(t, "xdp-filter load eth0 -p allow -f udp")
	_, err := h.Attach("eth0", XDPAuto)
	if err == nil || !strings.Contains(err.Error(), "xdpfilt_alw_udp") || !strings.Contains(err.Error(), "no dispatcher") {
		t.Errorf("error is %v", err)
	}
	if got := tool(t, "xdp-loader status eth0"); !strings.Contains(got, "xdpfilt_alw_udp") {
		t.Errorf("on eth0 is %s", got)
	}
	tool(t, "xdp-filter unload eth0")
}

// What an interface that is gone left behind goes with the next one, or with everything.
func TestShareComesBack(t *testing.T) {
	h := newSharingHost(t)
	for range 2 {
		h.attachShared(t, balancerOnly)
		eth0, err := netlink.LinkByName("eth0")
		must(t, err)
		must(t, netlink.LinkDel(eth0))
		if list := h.Interfaces(); len(list) != 1 || list[0].Up || list[0].Index != 0 {
			t.Errorf("without the interface: %+v", list)
		}
		h.clients = addInterface(t, "eth0", clientsMAC)
	}
	h.attachShared(t, balancerOnly)
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkDel(eth0))
	must(t, h.Close())
	must(t, Unload(h.options.PinPath))
	if left := keptFolders(t); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// keptFolders lists the dispatchers that are kept.
func keptFolders(t testing.TB) []string {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(os.Getenv("LIBXDP_BPFFS"), "xdp", "*"))
	must(t, err)
	return folders
}
