package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// within makes one probe from a host.
func within(t *testing.T, h *lab.Host, timeout time.Duration, to string) error {
	t.Helper()
	p, err := New(Spec{Kind: ICMP}, netip.AddrPortFrom(netip.MustParseAddr(to), 0), Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return h.Do(func() error { return p.Probe(ctx) })
}

func TestICMP(t *testing.T) {
	l := lab.ForTest(t)
	left, right := newHost(t, l, "left"), newHost(t, l, "right")
	must(t, l.Connect(left, "eth0", right, "eth0", lab.LinkOptions{}))
	must(t, left.Addr("eth0", "192.0.2.1/24", "2001:db8::1/64"))
	must(t, right.Addr("eth0", "192.0.2.2/24", "2001:db8::2/64"))

	for _, to := range []string{"192.0.2.2", "2001:db8::2", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"} {
		if err := within(t, left, patience, to); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	must(t, right.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"))
	must(t, right.Sysctl("net.ipv6.icmp.echo_ignore_all", "1"))
	for _, to := range []string{"192.0.2.2", "2001:db8::2", "192.0.2.77", "2001:db8::77"} {
		if err := within(t, left, 50*time.Millisecond, to); err == nil || err.Error() != "no answer" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s, where nobody answers: %v", to, err)
		}
	}
	if err := within(t, left, patience, "198.51.100.1"); err == nil || err.Error() != "connect: network is unreachable" {
		t.Errorf("an address without a route: %v", err)
	}
}

func newHost(t *testing.T, l *lab.Lab, name string) *lab.Host {
	t.Helper()
	h, err := l.Host(name)
	must(t, err)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A host whose kernel is silent answers by a program that gets every other part of an echo request wrong.
func TestICMPTakesNoOtherAnswerForItsOwn(t *testing.T) {
	l := lab.ForTest(t)
	left, right := newHost(t, l, "left"), newHost(t, l, "right")
	must(t, l.Connect(left, "eth0", right, "eth0", lab.LinkOptions{}))
	must(t, left.Addr("eth0", "192.0.2.1/24"))
	must(t, right.Addr("eth0", "192.0.2.2/24"))
	must(t, right.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"))

	var responder net.PacketConn
	must(t, right.Do(func() (err error) {
		responder, err = net.ListenPacket("ip4:icmp", "192.0.2.2")
		return err
	}))
	var mu sync.Mutex
	spoil := func(*icmp.Message, *icmp.Echo) {}
	done := make(chan struct{})
	defer func() {
		responder.Close()
		<-done
	}()
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for n, from, err := responder.ReadFrom(buffer); err == nil; n, from, err = responder.ReadFrom(buffer) {
			message, err := icmp.ParseMessage(1, buffer[:n])
			if err != nil || message.Type != ipv4.ICMPTypeEcho {
				continue
			}
			message.Type = ipv4.ICMPTypeEchoReply
			mu.Lock()
			spoil(message, message.Body.(*icmp.Echo))
			mu.Unlock()
			answer, err := message.Marshal(nil)
			if err == nil {
				_, _ = responder.WriteTo(answer, from)
			}
		}
	}()
	if err := within(t, left, patience, "192.0.2.2"); err != nil {
		t.Fatalf("the honest answer: %v", err)
	}
	for name, f := range map[string]func(*icmp.Message, *icmp.Echo){
		"identifier": func(_ *icmp.Message, e *icmp.Echo) { e.ID ^= 1 },
		"sequence":   func(_ *icmp.Message, e *icmp.Echo) { e.Seq ^= 1 },
		"data":       func(_ *icmp.Message, e *icmp.Echo) { e.Data[0] ^= 1 },
		"length":     func(_ *icmp.Message, e *icmp.Echo) { e.Data = e.Data[1:] },
		"type":       func(m *icmp.Message, _ *icmp.Echo) { m.Type = ipv4.ICMPTypeEcho },
	} {
		mu.Lock()
		spoil = f
		mu.Unlock()
		if err := within(t, left, 50*time.Millisecond, "192.0.2.2"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("with a wrong %s: %v", name, err)
		}
	}
}

// Raw sockets get everybody's answers: each probe takes its own, and fails without.
func TestParallelEchoes(t *testing.T) {
	p, err := New(Spec{Kind: ICMP}, netip.MustParseAddrPort("127.0.0.1:0"), Dialer{})
	must(t, err)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := p.Probe(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
