package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// twoHosts makes left (.1) and right (.2), which a switch connects.
func twoHosts(t *testing.T) (left, right *Host) {
	t.Helper()
	l := ForTest(t)
	s, err := l.Switch("switch")
	must(t, err)
	for i, host := range []**Host{&left, &right} {
		*host, err = l.Host([]string{"left", "right"}[i])
		must(t, err)
		must(t, s.Join(*host, "eth0", LinkOptions{}))
		must(t, (*host).Addr("eth0", fmt.Sprintf("192.0.2.%d/24", i+1), fmt.Sprintf("2001:db8::%d/64", i+1)))
	}
	return left, right
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// echo sends a message over a new connection and expects it back.
func echo(t *testing.T, from *Host, network, address string) {
	t.Helper()
	conn, err := from.DialContext(soon(t), network, address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	message := []byte("to " + network + " " + address)
	_, err = conn.Write(message)
	must(t, err)
	answer := make([]byte, len(message))
	_, err = io.ReadFull(conn, answer)
	must(t, err)
	if string(answer) != string(message) {
		t.Fatalf("%s %s answered %q", network, address, answer)
	}
}

// serveEcho answers on port 7 of a host until the test ends.
func serveEcho(t *testing.T, h *Host) {
	t.Helper()
	listener, err := h.Listen("tcp", "[::]:7")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	packets, err := h.ListenPacket("udp", "[::]:7")
	must(t, err)
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for n, from, err := packets.ReadFrom(buffer); err == nil; n, from, err = packets.ReadFrom(buffer) {
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	}()
}

func TestHostsTalkThroughSwitch(t *testing.T) {
	left, right := twoHosts(t)
	serveEcho(t, right)
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{"192.0.2.2:7", "[2001:db8::2]:7"} {
			echo(t, left, network, address)
		}
	}
}

func TestHostsTalkWhileXDPPasses(t *testing.T) {
	left, right := twoHosts(t)
	for _, h := range []*Host{left, right} {
		attachXDP(t, h, asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()})
	}
	serveEcho(t, right)
	for _, address := range []string{"192.0.2.2:7", "[2001:db8::2]:7"} {
		echo(t, left, "tcp", address)
		echo(t, left, "udp", address)
	}
}

func TestFramesSentBackByXDPArrive(t *testing.T) {
	left, right := twoHosts(t)
	attachXDP(t, right, reflect(asm.Mov.Imm(asm.R0, 3 /* XDP_TX */)))
	reflected(t, left)
}

func TestFramesRedirectedByXDPArrive(t *testing.T) {
	left, right := twoHosts(t)
	eth0, err := right.Netlink().LinkByName("eth0")
	must(t, err)
	devices, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(t, err)
	t.Cleanup(func() { devices.Close() })
	must(t, right.Do(func() error { return devices.Put(uint32(0), uint32(eth0.Attrs().Index)) }))
	attachXDP(t, right, reflect(
		asm.LoadMapPtr(asm.R1, devices.FD()),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRedirectMap.Call(),
	))
	reflected(t, left)
}

// reflected sends a frame that the program of reflect sends back.
func reflected(t *testing.T, left *Host) {
	t.Helper()
	frames := capture(t, left)
	conn, err := left.DialContext(soon(t), "udp", "192.0.2.2:9")
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("x")) // asks for the address by ARP, which the program sends back
	must(t, err)
	frame := make([]byte, 2048)
	for {
		n, err := frames.Read(frame)
		if err != nil {
			t.Fatal("nothing came back:", err)
		}
		if n >= 14 && bytes.Equal(frame[6:12], reflectorMAC) {
			return
		}
	}
}

// capture returns all frames that arrive on the host, for at most 5 s.
func capture(t *testing.T, h *Host) *os.File {
	t.Helper()
	const allProtocols = 0x0300 // ETH_P_ALL in network byte order
	var file *os.File
	must(t, h.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, allProtocols)
		file = os.NewFile(uintptr(fd), "frames")
		return err
	}))
	t.Cleanup(func() { file.Close() })
	must(t, file.SetDeadline(time.Now().Add(5*time.Second)))
	return file
}

// reflectorMAC is the source of the frames that reflect sends back.
var reflectorMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0}

// reflect returns a program that turns a frame round and sends it back the way that is given.
func reflect(send ...asm.Instruction) asm.Instructions {
	return slices.Concat(asm.Instructions{
		asm.Mov.Imm(asm.R0, 1), // XDP_DROP
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 14),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
		asm.LoadMem(asm.R4, asm.R2, 6, asm.Word),
		asm.LoadMem(asm.R5, asm.R2, 10, asm.Half),
		asm.StoreMem(asm.R2, 0, asm.R4, asm.Word),
		asm.StoreMem(asm.R2, 4, asm.R5, asm.Half),
		asm.StoreImm(asm.R2, 6, 2, asm.Word), // reflectorMAC
		asm.StoreImm(asm.R2, 10, 0, asm.Half),
	}, send, asm.Instructions{asm.Return().WithSymbol("out")})
}

func attachXDP(t *testing.T, h *Host, instructions asm.Instructions) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: instructions, License: "MIT"})
	must(t, err)
	t.Cleanup(func() { program.Close() })
	must(t, h.Do(func() error {
		eth0, err := h.Netlink().LinkByName("eth0")
		must(t, err)
		xdp, err := link.AttachXDP(link.XDPOptions{
			Program: program, Interface: eth0.Attrs().Index, Flags: link.XDPDriverMode,
		})
		must(t, err)
		t.Cleanup(func() { xdp.Close() })
		return nil
	}))
}

func TestRouter(t *testing.T) {
	l := ForTest(t)
	var hosts [3]*Host
	for i, name := range []string{"left", "router", "right"} {
		var err error
		hosts[i], err = l.Host(name)
		must(t, err)
	}
	left, router, right := hosts[0], hosts[1], hosts[2]
	must(t, errors.Join(
		l.Connect(left, "eth0", router, "eth0", LinkOptions{}),
		l.Connect(router, "eth1", right, "eth0", LinkOptions{MTU: 9000}),
		left.Addr("eth0", "192.0.2.1/24", "2001:db8:1::1/64"),
		router.Addr("eth0", "192.0.2.254/24", "2001:db8:1::254/64"),
		router.Addr("eth1", "198.51.100.254/24", "2001:db8:2::254/64"),
		right.Addr("eth0", "198.51.100.1/24", "2001:db8:2::1/64"),
		router.Forward(),
		left.Route("0.0.0.0/0", "192.0.2.254"), left.Route("::/0", "2001:db8:1::254"),
		right.Route("192.0.2.0/24", "198.51.100.254"), right.Route("2001:db8:1::/64", "2001:db8:2::254"),
	))
	serveEcho(t, right)
	echo(t, left, "tcp", "198.51.100.1:7")
	echo(t, left, "udp", "[2001:db8:2::1]:7")
}

func TestLinkDownAndMACChange(t *testing.T) {
	left, right := twoHosts(t)
	serveEcho(t, right)
	must(t, right.LinkDown("eth0"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if conn, err := left.DialContext(ctx, "tcp", "192.0.2.2:7"); err == nil {
		conn.Close()
		t.Fatal("connected over a link that is down")
	}
	must(t, right.LinkUp("eth0"))
	must(t, right.SetMAC("eth0", net.HardwareAddr{2, 0, 0, 0, 0, 9}))
	echo(t, left, "tcp", "[2001:db8::2]:7")
	eth0, err := right.Netlink().LinkByName("eth0")
	must(t, err)
	if got := eth0.Attrs().HardwareAddr.String(); got != "02:00:00:00:00:09" {
		t.Errorf("MAC is %s", got)
	}
}

func TestDoReturnsToItsNamespace(t *testing.T) {
	left, _ := twoHosts(t)
	before := namespace(t)
	failed := errors.New("failed")
	err := left.Do(func() error {
		if namespace(t).Equal(before) {
			t.Error("not inside the host")
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Error("Do returned", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = left.Do(func() error { panic("out") })
	}()
	if !namespace(t).Equal(before) {
		t.Error("still inside the host")
	}
}

func namespace(t *testing.T) netns.NsHandle {
	t.Helper()
	ns, err := netns.Get()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return ns
}

func TestOnlyNumericAddresses(t *testing.T) {
	left, _ := twoHosts(t)
	if _, err := left.DialContext(soon(t), "tcp", "localhost:7"); err == nil {
		t.Error("dialled a name")
	}
}

func TestCommandRunsInNamespace(t *testing.T) {
	left, _ := twoHosts(t)
	p, err := left.Command(soon(t), "cat", "/proc/self/net/fib_trie")
	must(t, err)
	must(t, p.Wait())
	if !strings.Contains(p.Output(), "192.0.2.1") {
		t.Errorf("the routes are not the host's:\n%s", p.Output())
	}
}

func TestCommandStopsAndDies(t *testing.T) {
	left, _ := twoHosts(t)
	p, err := left.Command(t.Context(), "sleep", "60")
	must(t, err)
	p.Stop()
	waitForState(t, p, "T")
	p.Continue()
	waitForState(t, p, "S")
	p.Kill()
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("it ended with %v", err)
	}
	if _, err := left.Command(t.Context(), "/no/such/program"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("starting nothing returned %v", err)
	}
}

func waitForState(t *testing.T, p *Process, state string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		must(t, err)
		if strings.Fields(string(stat))[2] == state {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process is not in state %s: %s", state, stat)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	l, err := New("sluice-test-close")
	must(t, err)
	h, err := l.Host("host")
	must(t, err)
	p, err := h.Command(t.Context(), "sleep", "60")
	must(t, err)
	if names := named(t, "sluice-test-close"); len(names) != 1 {
		t.Fatalf("while open there are %v", names)
	}
	must(t, l.Close())
	must(t, l.Close())
	if names := named(t, "sluice-test-close"); len(names) != 0 {
		t.Errorf("%v are left", names)
	}
	if err := unix.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the process lives: %v", err)
	}
	if _, err := l.Host("late"); err == nil {
		t.Error("a closed lab takes hosts")
	}
	if _, err := h.Command(t.Context(), "true"); err == nil {
		t.Error("a closed lab starts processes")
	}
}

// A process that was killed left its namespaces and, thanks to Pdeathsig, no processes.
func TestLeftoversOfDeadProcessAreRemoved(t *testing.T) {
	const variable = "SLUICE_TEST_ABANDON"
	if os.Getenv(variable) != "" {
		l, err := New("sluice-test-dead")
		must(t, err)
		h, err := l.Host("host")
		must(t, err)
		p, err := h.Command(t.Context(), "sleep", "60")
		must(t, err)
		fmt.Printf("pid=%d\n", p.PID())
		must(t, unix.Kill(os.Getpid(), unix.SIGKILL))
		select {}
	}
	child := exec.CommandContext(soon(t), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), variable+"=1")
	out, err := child.Output()
	if err == nil {
		t.Fatal("the child was not killed")
	}
	if names := named(t, "sluice-test-dead"); len(names) != 1 {
		t.Fatalf("the child left %v", names)
	}
	var pid int
	if _, err := fmt.Sscanf(string(out), "pid=%d", &pid); err != nil {
		t.Fatalf("the child said %q", out)
	}
	l, err := New("sluice-test-dead")
	must(t, err)
	must(t, l.Close())
	if names := named(t, "sluice-test-dead"); len(names) != 0 {
		t.Errorf("%v are left", names)
	}
	for deadline := time.Now().Add(5 * time.Second); !ended(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the dead process's child lives")
		}
	}
}

// ended says whether a process is gone or a zombie that nobody waits for.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Fields(string(stat))[2] == "Z"
}

func named(t *testing.T, prefix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(namespaces, prefix+"-*"))
	must(t, err)
	return names
}

func TestTwoLabsAtOnce(t *testing.T) {
	for range 2 {
		left, right := twoHosts(t)
		serveEcho(t, right)
		echo(t, left, "tcp", "192.0.2.2:7")
	}
}
