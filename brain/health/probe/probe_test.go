package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loopbacks are where the servers of tests listen.
var loopbacks = []string{"127.0.0.1:0", "[::1]:0"}

// patience bounds probes that are expected to end by themselves.
const patience = 10 * time.Second

// onLoopbacks runs a test on each family.
func onLoopbacks(t *testing.T, test func(t *testing.T, address string)) {
	for _, address := range loopbacks {
		t.Run(address, func(t *testing.T) { test(t, address) })
	}
}

// probe makes one probe.
func probe(t *testing.T, spec Spec, to netip.AddrPort) error {
	t.Helper()
	return probeWithin(t, patience, spec, to)
}

func probeWithin(t *testing.T, timeout time.Duration, spec Spec, to netip.AddrPort) error {
	t.Helper()
	p, err := New(spec, to, Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return p.Probe(ctx)
}

// succeeds fails the test unless the probe succeeds.
func succeeds(t *testing.T, spec Spec, to netip.AddrPort) {
	t.Helper()
	if err := probe(t, spec, to); err != nil {
		t.Errorf("%+v failed: %v", spec, err)
	}
}

// fails fails the test unless the probe fails with that text, before its deadline.
func fails(t *testing.T, spec Spec, to netip.AddrPort, text string) {
	t.Helper()
	if err := probe(t, spec, to); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%+v ended with %v, want an error with %q", spec, err, text)
	}
}

// timesOut fails the test unless the probe ends by its deadline, and says so in the text and in what it wraps.
func timesOut(t *testing.T, spec Spec, to netip.AddrPort, text string) {
	t.Helper()
	err := probeWithin(t, 250*time.Millisecond, spec, to)
	if err == nil || err.Error() != text || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%+v ended with %v, want %q by the deadline", spec, err, text)
	}
}

// listen serves connections, each on a goroutine, until the test ends.
func listen(t *testing.T, address string, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return addressOf(listener.Addr())
}

// listenPacket answers datagrams until the test ends; nil is no answer.
func listenPacket(t *testing.T, address string, answer func(datagram []byte) []byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buffer := make([]byte, 1<<16)
		for n, from, err := conn.ReadFrom(buffer); err == nil; n, from, err = conn.ReadFrom(buffer) {
			if response := answer(buffer[:n]); response != nil {
				_, _ = conn.WriteTo(response, from)
			}
		}
	}()
	return addressOf(conn.LocalAddr())
}

func addressOf(address net.Addr) netip.AddrPort { return netip.MustParseAddrPort(address.String()) }

// closedPort returns an address that nobody listens on: a socket holds the port without listening.
func closedPort(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	family, name := syscall.AF_INET, syscall.Sockaddr(&syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if netip.MustParseAddrPort(address).Addr().Is6() {
		family, name = syscall.AF_INET6, &syscall.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, name); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	switch bound := bound.(type) {
	case *syscall.SockaddrInet4:
		port = bound.Port
	case *syscall.SockaddrInet6:
		port = bound.Port
	}
	return netip.AddrPortFrom(netip.MustParseAddrPort(address).Addr(), uint16(port))
}

// resources are what this process holds.
type resources struct{ goroutines, descriptors int }

func count(t *testing.T) resources {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return resources{goroutines: runtime.NumGoroutine(), descriptors: len(entries)}
}

// await waits until the process holds no more than before: goroutines may end a moment later than their probe.
func (before resources) await(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		now := count(t)
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("there were %+v and are %+v", before, now)
		}
	}
}

// leavesNothing makes many probes at a time, and fails the test unless nothing is left of them.
func leavesNothing(t *testing.T, spec Spec, to netip.AddrPort, good func(error) bool) {
	t.Helper()
	p, err := New(spec, to, Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	together := func(times int) {
		var wg sync.WaitGroup
		for range times {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := p.Probe(ctx); !good(err) {
					t.Errorf("%+v ended with %v", spec, err)
				}
			})
		}
		wg.Wait()
	}
	together(1) // makes what is made once, such as the poller's descriptors
	counts := count(t)
	for range 5 {
		together(10)
	}
	counts.await(t)
}

func well(err error) bool { return err == nil }

func TestEveryProbeLeavesNothing(t *testing.T) {
	servers := newServers(t)
	for _, spec := range []Spec{
		{}, {Expect: "220"}, {Kind: HTTP, Body: "well"}, {Kind: HTTPS, CA: servers.ca, ServerName: "backend.test"},
		{Kind: TLS, CA: servers.ca, ServerName: "backend.test"}, {Kind: DNS}, {Kind: UDP, Send: "ping"}, {Kind: ICMP},
		{Kind: GRPC}, {Kind: GRPC, TLS: true, Insecure: true}, {Kind: Exec, Command: "sleep 1000 & true"},
	} {
		t.Run(string(spec.Kind), func(t *testing.T) { leavesNothing(t, spec, servers.address(spec), well) })
	}
}

func TestFailedProbeLeavesNothing(t *testing.T) {
	servers := newServers(t)
	failed := func(err error) bool { return err != nil }
	for _, spec := range []Spec{
		{Kind: HTTP, Status: "404"}, {Kind: HTTPS}, {Kind: TLS}, {Kind: DNS, Expect: "no such"},
		{Kind: UDP, Send: "ping", Expect: "no such"}, {Kind: GRPC, Service: "no such"}, {Kind: GRPC, TLS: true},
		{Kind: Exec, Command: "sleep 1000 & false"},
	} {
		t.Run(string(spec.Kind), func(t *testing.T) { leavesNothing(t, spec, servers.address(spec), failed) })
	}
}

func TestLateProbeLeavesNothing(t *testing.T) {
	servers := newServers(t)
	for _, spec := range []Spec{{Expect: "."}, {Kind: HTTP}, {Kind: TLS}, {Kind: GRPC}, {Kind: Exec, Command: "sleep 1000 & sleep 1000"}} {
		t.Run(string(spec.Kind), func(t *testing.T) {
			late := func(t *testing.T) {
				if err := probeWithin(t, 20*time.Millisecond, spec, servers.silent); err == nil {
					t.Error("it succeeded without an answer")
				}
			}
			late(t)
			counts := count(t)
			for range 5 {
				late(t)
			}
			counts.await(t)
		})
	}
}

// A server that never answers is one that nobody has accepted from: its kernel completes connections by itself.
func TestSilentServerFailsAtTheDeadline(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		to := addressOf(listener.Addr())
		succeeds(t, Spec{}, to)
		mute := listenPacket(t, address, func([]byte) []byte { return nil })
		var wg sync.WaitGroup
		defer wg.Wait()
		for _, c := range []struct {
			spec Spec
			to   netip.AddrPort
			text string
		}{
			{Spec{Expect: "220"}, to, "answer: no answer"},
			{Spec{Kind: HTTP}, to, "response: no answer"},
			{Spec{Kind: HTTPS}, to, "TLS handshake: no answer"},
			{Spec{Kind: TLS}, to, "TLS handshake: no answer"},
			{Spec{Kind: GRPC}, to, "response: no answer"},
			{Spec{Kind: GRPC, TLS: true}, to, "TLS handshake: no answer"},
			{Spec{Kind: UDP, Send: "ping"}, mute, "no answer"},
			{Spec{Kind: DNS}, mute, "no answer"},
		} {
			wg.Go(func() { timesOut(t, c.spec, c.to, c.text) })
		}
	})
}

func TestRefusalFailsAtOnce(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		to := closedPort(t, address)
		for spec, text := range map[Spec]string{
			{}:                        "connect: connection refused",
			{Kind: HTTP}:              "connect: connection refused",
			{Kind: HTTPS}:             "connect: connection refused",
			{Kind: TLS}:               "connect: connection refused",
			{Kind: GRPC}:              "connect: connection refused",
			{Kind: UDP, Send: "ping"}: "connection refused",
			{Kind: DNS}:               "connection refused",
		} {
			err := probe(t, spec, to)
			if err == nil || err.Error() != text || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%+v ended with %v, want %q", spec, err, text)
			}
		}
	})
}

func TestCancelledProbeSaysSo(t *testing.T) {
	servers := newServers(t)
	for _, spec := range []Spec{
		{Expect: "."}, {Kind: HTTP}, {Kind: TLS}, {Kind: GRPC}, {Kind: Exec, Command: "sleep 1000"},
	} {
		p, err := New(spec, servers.silent, Dialer{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := p.Probe(ctx); err != context.Canceled {
			t.Errorf("%+v ended with %v, want %v", spec, err, context.Canceled)
		}
	}
}

func TestWantOfDescriptorsIsNotTheTargets(t *testing.T) {
	servers := newServers(t)
	p, err := New(Spec{}, servers.tcp, Dialer{Control: func(string, string, syscall.RawConn) error { return syscall.EMFILE }})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(t.Context()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want one that is %v", err, syscall.EMFILE)
	}
}
