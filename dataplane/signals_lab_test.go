package dataplane

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/test/lab"
)

// initialTimeout is how long Linux waits for the answer to a SYN before it sends another (RFC 6298, section 2).
const initialTimeout = time.Second

// signalLab is a client, the balancer, and a backend that answers for itself and as the service, until there is a
// connection that is not accepted: then it does not answer SYNs, as an overloaded server.
type signalLab struct {
	*testHost
	client, backend *lab.Host
	listener        net.Listener
}

func newSignalLab(t *testing.T, mode Mode) (*signalLab, Service) {
	t.Helper()
	l := lab.ForTest(t)
	hosts := make(map[string]*lab.Host)
	for _, name := range []string{"client", "balancer", "backend"} {
		h, err := l.Host(name)
		must(t, err)
		hosts[name] = h
	}
	client, balancer, backend := hosts["client"], hosts["balancer"], hosts["backend"]
	must(t, errors.Join(
		l.Connect(client, "eth0", balancer, "clients", lab.LinkOptions{}),
		l.Connect(backend, "eth0", balancer, "servers", lab.LinkOptions{}),
		client.Addr("eth0", client4+"/24"),
		client.Route(service4+"/32", "192.0.2.1"),
		balancer.Addr("clients", "192.0.2.1/24"),
		balancer.Addr("servers", "198.51.100.1/24"),
		balancer.Forward(),
		backend.Addr("eth0", "198.51.100.11/24"),
		backend.Addr("lo", service4+"/32"),
		backend.Route("0.0.0.0/0", "198.51.100.1"),
	))
	must(t, backend.Sysctl("net.core.somaxconn", "0"))
	listener, err := backend.Listen("tcp", "0.0.0.0:80")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	h := &testHost{}
	options := testOptions(t)
	options.NATPorts = PortRange{First: 5000, Last: 6000}
	must(t, balancer.Do(func() error {
		h.Dataplane = openTest(t, options)
		for _, name := range []string{"clients", "servers"} {
			if _, err := h.Attach(name, XDPAuto); err != nil {
				return err
			}
		}
		return nil
	}))
	s := oneBackend(ProtocolTCP, service4, mode, "198.51.100.11", 80)
	h.set(t, s)
	return &signalLab{h, client, backend, listener}, s
}

// dial opens a connection to the service, in the background.
func (l *signalLab) dial(t *testing.T) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		conn, err := l.client.DialContext(t.Context(), "tcp", net.JoinHostPort(service4, "80"))
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	return done
}

// accept takes the connection that has waited longest.
func (l *signalLab) accept(t *testing.T) {
	t.Helper()
	conn, err := l.listener.Accept()
	must(t, err)
	must(t, conn.Close())
}

// Real connections tell how long their handshake took, whichever way the answer goes: less than what makes the client
// repeat its SYN, and more when the backend does not answer the first one. That is told too.
func TestSignalsOfRealConnections(t *testing.T) {
	for _, mode := range []Mode{ModeNAT, ModeL2} {
		t.Run(mode.String(), func(t *testing.T) {
			l, s := newSignalLab(t, mode)
			w := l.watch(t)
			for range 20 {
				w.wantHandshake(t, l, s)
				l.accept(t)
			}
			w.wantHandshake(t, l, s) // which is not accepted yet
			done := l.dial(t)
			opened, repeated := w.ofFlow(t, s, SignalOpened), w.ofFlow(t, s, SignalRepeated)
			if repeated.Flow != opened.Flow || repeated.Handshake < initialTimeout*9/10 {
				t.Errorf("after %+v came %+v", opened, repeated)
			}
			l.accept(t)
			answered := w.ofFlow(t, s, SignalAnswered)
			if answered.Flow != opened.Flow || answered.Handshake <= repeated.Handshake {
				t.Errorf("after %+v came %+v", repeated, answered)
			}
			must(t, <-done)
		})
	}
}

// wantHandshake opens a connection that is answered.
func (w *watched) wantHandshake(t *testing.T, l *signalLab, s Service) {
	t.Helper()
	done := l.dial(t)
	opened, answered := w.ofFlow(t, s, SignalOpened), w.next(t)
	if answered.Kind == SignalRepeated { // a very busy machine
		answered = w.ofFlow(t, s, SignalAnswered)
	} else if answered.Handshake >= initialTimeout {
		t.Errorf("a handshake took %s without another SYN", answered.Handshake)
	}
	if answered.Kind != SignalAnswered || answered.Flow != opened.Flow || answered.Handshake <= 0 {
		t.Errorf("after %+v came %+v", opened, answered)
	}
	must(t, <-done)
}

// A backend that is silent for good gets SYNs that nothing follows.
func TestSignalsOfDeadBackend(t *testing.T) {
	l, s := newSignalLab(t, ModeL2)
	w := l.watch(t)
	// Without the service's address it drops what it gets. (Its link must stay up, or the next hop goes with it.)
	lo, err := l.backend.Netlink().LinkByName("lo")
	must(t, err)
	address, err := netlink.ParseAddr(service4 + "/32")
	must(t, err)
	must(t, l.backend.Netlink().AddrDel(lo, address))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	for range 5 {
		go func() {
			if conn, err := l.client.DialContext(ctx, "tcp", net.JoinHostPort(service4, "80")); err == nil {
				t.Error("somebody answers")
				conn.Close()
			}
			gone <- struct{}{}
		}()
	}
	opened := make(map[uint32]bool)
	for len(opened) < 5 {
		opened[w.ofFlow(t, s, SignalOpened).Flow] = true
	}
	cancel()
	for range 5 {
		<-gone
	}
	must(t, w.end())
	for len(w.signals) > 0 {
		if got := w.next(t); got.Kind != SignalRepeated {
			t.Errorf("signal is %+v", got)
		}
	}
}

// ofFlow returns the next signal of a kind, without those of repeated SYNs before it.
func (w *watched) ofFlow(t *testing.T, s Service, kind SignalKind) Signal {
	t.Helper()
	got := w.next(t)
	for got.Kind == SignalRepeated && kind != SignalRepeated {
		got = w.next(t)
	}
	if got.Kind != kind || got.Service != s.ServiceKey || got.Backend != s.Backends[0].endpoint() {
		t.Fatalf("signal is %+v, want %s", got, kind)
	}
	return got
}
