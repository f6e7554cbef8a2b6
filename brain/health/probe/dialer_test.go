package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEverySocketHasSourceAndMark(t *testing.T) {
	servers := newServers(t)
	source := netip.MustParseAddr("127.0.0.9")
	for _, spec := range []Spec{
		{}, {Kind: HTTP}, {Kind: HTTPS, Insecure: true}, {Kind: TLS, Insecure: true}, {Kind: DNS}, {Kind: UDP, Send: "ping"},
		{Kind: ICMP}, {Kind: GRPC},
	} {
		var sockets atomic.Int32
		p, err := New(spec, servers.address(spec), Dialer{Source: source, Control: func(_, _ string, raw syscall.RawConn) error {
			sockets.Add(1)
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 7)
			}), err)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Probe(t.Context()); err != nil {
			t.Errorf("%s: %v", spec.Kind, err)
		}
		if n := sockets.Load(); n != 1 {
			t.Errorf("%s asked %d times for the options of a socket, want once", spec.Kind, n)
		}
	}
}

func TestConnectionComesFromSource(t *testing.T) {
	from := make(chan net.Addr, 1)
	to := listen(t, loopbacks[0], func(c net.Conn) { from <- c.RemoteAddr() })
	p, err := New(Spec{}, to, Dialer{Source: netip.MustParseAddr("127.0.0.9")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := (<-from).String(); !strings.HasPrefix(got, "127.0.0.9:") {
		t.Errorf("it came from %s", got)
	}
}

func TestSourceThatIsNotHere(t *testing.T) {
	to := listen(t, loopbacks[0], func(net.Conn) {})
	p, err := New(Spec{}, to, Dialer{Source: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(t.Context()); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v, want one that is %v", err, syscall.EADDRNOTAVAIL)
	}
}

func TestSourceOfAnotherFamily(t *testing.T) {
	_, err := New(Spec{}, netip.MustParseAddrPort("127.0.0.1:1"), Dialer{Source: netip.IPv6Loopback()})
	if err == nil || !strings.Contains(err.Error(), "same family") {
		t.Errorf("got %v", err)
	}
}

// A connection that was reset leaves its end in no state, one that was closed would be in TIME_WAIT.
func TestHangingUpIsAReset(t *testing.T) {
	servers := newServers(t)
	for _, spec := range []Spec{
		{}, {Expect: "220"}, {Kind: HTTP}, {Kind: HTTPS, Insecure: true}, {Kind: TLS, Insecure: true}, {Kind: GRPC},
		{Kind: GRPC, TLS: true, Insecure: true},
	} {
		ended := make(chan error, 1)
		front := relay(t, servers.address(spec), ended)
		succeeds(t, spec, front)
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%+v ended its connection with %v, want %v", spec, err, syscall.ECONNRESET)
		}
	}
}

// relay passes bytes on to a server, and tells how the client ended the connection.
func relay(t *testing.T, to netip.AddrPort, ended chan<- error) netip.AddrPort {
	return listen(t, loopbacks[0], func(client net.Conn) {
		server, err := net.Dial("tcp", to.String())
		if err != nil {
			ended <- err
			return
		}
		back := make(chan error, 1)
		go func() { back <- copyBytes(client, server) }()
		there := copyBytes(server, client)
		server.Close()
		// The kernel tells of a reset once: whoever reads or writes next.
		ended <- errors.Join(there, <-back)
	})
}

// copyBytes returns why it ended, which may be io.EOF.
func copyBytes(to, from net.Conn) error {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return err
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

func TestParallelProbesAreIndependent(t *testing.T) {
	servers := newServers(t)
	p, err := New(Spec{Kind: HTTP}, servers.http, Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Probe(cancelled); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if err := p.Probe(t.Context()); err != nil {
		t.Errorf("a probe after one that was cancelled failed: %v", err)
	}
}
