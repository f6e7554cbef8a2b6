package dataplane

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// watched is the signals of a host's flows.
type watched struct {
	signals chan Signal
	taken   atomic.Int32  // so many were taken out of the buffer
	hold    chan struct{} // until it is closed, the first one is held
	end     func() error
}

// watch begins to read the signals of the host's flows.
func (h *testHost) watch(t testing.TB) *watched {
	t.Helper()
	w := h.watchHolding(t)
	close(w.hold)
	return w
}

// watchHolding is watch, but the first signal is held, and with it all that follow, until w.hold is closed.
func (h *testHost) watchHolding(t testing.TB) *watched {
	t.Helper()
	w := &watched{signals: make(chan Signal, 1<<16), hold: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- h.Signals(ctx, func(s Signal) {
			w.taken.Add(1)
			select {
			case <-w.hold:
				w.signals <- s
			case <-ctx.Done():
			}
		})
	}()
	w.end = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { must(t, w.end()) })
	eventually(t, "a watched flow", func() bool { return h.Stats().SignalEvery == 1 })
	return w
}

// next returns the next signal.
func (w *watched) next(t testing.TB) Signal {
	t.Helper()
	select {
	case s := <-w.signals:
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("no signal within 5 s")
		return Signal{}
	}
}

// want fails unless the next signal is of a kind, and of the flow of a packet to the service's only backend.
func (w *watched) want(t testing.TB, kind SignalKind, s Service, flow packet) Signal {
	t.Helper()
	got := w.next(t)
	if got.Kind != kind || got.Service != s.ServiceKey || got.Backend != s.Backends[0].endpoint() || got.Flow != flowHash(flow) {
		t.Fatalf("signal is %+v, want %s of flow %#x to %s of %s", got, kind, flowHash(flow), s.Backends[0].endpoint(), s.ServiceKey)
	}
	return got
}

// wantNone fails unless the next signal is that of another flow, which is opened now.
func (w *watched) wantNone(t testing.TB, h *testHost, s Service, flow packet) {
	t.Helper()
	other := flow.fromPort(flow.sport + 1).opening()
	h.receive(t, h.clients, other.frame(t))
	w.want(t, SignalOpened, s, other)
}

func (p packet) opening() packet {
	p.syn, p.fin, p.rst = true, false, false
	return p
}

// acknowledging is any packet of an open connection.
func (p packet) acknowledging() packet {
	p.syn, p.fin, p.rst = false, false, false
	return p
}

func (p packet) resetting() packet {
	p.syn, p.fin, p.rst = false, false, true
	return p
}

// handshakes counts those that are timed.
func (h *testHost) handshakes(t testing.TB) int {
	t.Helper()
	return len(keys(t, h.objects.Handshakes4)) + len(keys(t, h.objects.Handshakes6))
}

// A handshake is told from its SYN to the client's next packet, whether the answer is seen or not.
func TestSignals(t *testing.T) {
	h := newTestHost(t, manyPorts(t))
	w := h.watch(t)
	for family, c := range errorCases {
		for _, mode := range []Mode{ModeNAT, ModeL2, ModeIPIP, ModeGUE} {
			t.Run(family+" "+mode.String(), func(t *testing.T) {
				h := h.here(t)
				s := oneBackend(ProtocolTCP, c.service, mode, c.backend, 80)
				h.set(t, s)
				syn := fromClient(ProtocolTCP, c.client, c.service)
				h.receive(t, h.clients, syn.frame(t))
				h.receive(t, h.clients, syn.frame(t))
				h.receive(t, h.clients, syn.acknowledging().frame(t))
				h.receive(t, h.clients, syn.acknowledging().frame(t))
				opened := w.want(t, SignalOpened, s, syn)
				if opened.Handshake != 0 || time.Since(opened.At) > time.Hour {
					t.Errorf("signal is %+v", opened)
				}
				for _, kind := range []SignalKind{SignalRepeated, SignalAnswered} {
					if got := w.want(t, kind, s, syn); got.Handshake != got.At.Sub(opened.At) || got.Handshake <= 0 {
						t.Errorf("%s %s after the SYN, says %s", kind, got.At.Sub(opened.At), got.Handshake)
					}
				}
				if n := h.handshakes(t); n != 0 {
					t.Errorf("%d handshakes are timed after the answer", n)
				}
				h.receive(t, h.clients, syn.frame(t)) // another connection from the same port
				h.receive(t, h.clients, syn.resetting().frame(t))
				w.want(t, SignalOpened, s, syn)
				w.want(t, SignalAnswered, s, syn)
				w.wantNone(t, h, s, syn)
				must(t, h.RemoveService(s.ServiceKey))
				h.forget(t)
				h.forgetHandshakes(t)
			})
		}
	}
}

func (h *testHost) forgetHandshakes(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{h.objects.Handshakes4, h.objects.Handshakes6} {
		for _, key := range keys(t, m) {
			must(t, m.Delete(key))
		}
	}
}

func manyPorts(t testing.TB) Options {
	t.Helper()
	options := testOptions(t)
	options.NATPorts = PortRange{First: 5000, Last: 6000}
	return options
}

// Flows that nobody watches, and packets that are not of handshakes, leave nothing and tell nothing.
func TestUnwatchedFlows(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	udp := oneBackend(ProtocolUDP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	h.set(t, udp)
	flow := fromClient(ProtocolTCP, client4, service4)
	h.receive(t, h.clients, flow.frame(t))
	w := h.watch(t)
	for _, p := range []packet{
		flow.acknowledging(), fromClient(ProtocolUDP, client4, service4), flow.fromPort(1).acknowledging(), flow.fromPort(1).acknowledging(),
	} {
		h.receive(t, h.clients, p.frame(t))
	}
	if n := h.handshakes(t); n != 0 {
		t.Errorf("%d handshakes are timed", n)
	}
	for _, key := range keys(t, h.objects.Flows4) {
		var remembered balancerFlow4
		must(t, h.objects.Flows4.Lookup(key, &remembered))
		if remembered.Head.Timed != 0 {
			t.Error("a flow is marked")
		}
	}
	w.wantNone(t, h, s, flow)
	must(t, w.end())
	h.receive(t, h.clients, flow.fromPort(2).frame(t))
	if n := h.handshakes(t); n != 1 || len(w.signals) != 0 {
		t.Errorf("%d handshakes are timed and %d signals told when nobody listens", n, len(w.signals))
	}
}

// A backend in mode nat that refuses a handshake is told from one that resets an open connection.
func TestSignalReset(t *testing.T) {
	h := newTestHost(t, manyPorts(t))
	w := h.watch(t)
	for family, c := range errorCases {
		t.Run(family, func(t *testing.T) {
			h := h.here(t)
			s := oneBackend(ProtocolTCP, c.service, ModeNAT, c.backend, 8080)
			h.set(t, s)
			syn := fromClient(ProtocolTCP, c.client, c.service)
			reset := between(c.backend, 8080, c.self, h.natPort(t, syn)).resetting()
			w.want(t, SignalOpened, s, syn)
			h.receive(t, h.servers, reset.frame(t))
			if got := w.want(t, SignalReset, s, syn); got.Handshake <= 0 {
				t.Errorf("the handshake took %s", got.Handshake)
			}
			h.receive(t, h.servers, reset.frame(t))
			h.receive(t, h.clients, syn.acknowledging().frame(t)) // late, and no answer
			w.wantNone(t, h, s, syn)

			syn = syn.fromPort(1)
			reset.dport = h.natPort(t, syn)
			w.want(t, SignalOpened, s, syn)
			h.receive(t, h.clients, syn.acknowledging().frame(t))
			w.want(t, SignalAnswered, s, syn)
			h.receive(t, h.servers, reset.acknowledging().frame(t))
			h.receive(t, h.servers, reset.frame(t))
			if got := w.want(t, SignalResetOpen, s, syn); got.Handshake != 0 {
				t.Errorf("the handshake took %s", got.Handshake)
			}
			h.receive(t, h.servers, reset.frame(t)) // closing already
			w.wantNone(t, h, s, syn)
		})
	}
}

// natPort sends a packet in mode nat and reads the port that it gets.
func (h *testHost) natPort(t testing.TB, p packet) uint16 {
	t.Helper()
	_, out := h.receive(t, h.clients, p.frame(t))
	if p.source.Is4() {
		return sourcePort(out)
	}
	return uint16(out[54])<<8 | uint16(out[55])
}

// An ICMP error says so when what it quotes was for a backend, and cannot be delivered at any size.
func TestSignalUnreachable(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	w := h.watch(t)
	for family, c := range errorCases {
		for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP} {
			t.Run(family+" "+protocol.String(), func(t *testing.T) {
				h := h.here(t)
				s := oneBackend(protocol, c.service, ModeNAT, c.backend, 8080)
				h.set(t, s)
				flow := fromClient(protocol, c.client, c.service)
				h.receive(t, h.clients, flow.frame(t))
				if protocol == ProtocolTCP {
					w.want(t, SignalOpened, s, flow)
				}
				quoted := between(c.self, 5000, c.backend, 8080)
				answer := between(c.service, 80, c.client, 40000)
				quoted.protocol, answer.protocol = protocol, protocol
				toSelf := packet{from: serverMAC(0xfe), to: serversMAC, source: addr(c.serverRouter), target: addr(c.self)}
				toService := packet{from: clientMAC, to: clientsMAC, source: addr(c.clientRouter), target: addr(c.service)}
				kind, code := uint8(3), uint8(1)
				if family == "IPv6" {
					kind, code = 1, 3
				}
				h.receive(t, h.servers, icmpFrame(t, toSelf, c.kind, c.code, quote(t, quoted)))
				h.receive(t, h.clients, icmpFrame(t, toService, kind, code, quote(t, answer)))
				h.receive(t, h.servers, icmpFrame(t, toSelf, kind, code, quote(t, quoted)))
				if got := w.want(t, SignalUnreachable, s, flow); (got.Handshake > 0) != (protocol == ProtocolTCP) {
					t.Errorf("the handshake took %s", got.Handshake)
				}
				if len(w.signals) != 0 {
					t.Errorf("one signal more: %+v", w.next(t))
				}
				must(t, h.RemoveService(s.ServiceKey))
				h.forget(t)
			})
		}
	}
}

// What is told of a backend that is gone is not said of the one that has its index now.
func TestSignalsWhenIndexIsReused(t *testing.T) {
	options := testOptions(t)
	options.Limits.Backends = 1
	h := newTestHost(t, options)
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	w := h.watchHolding(t)
	flow := fromClient(ProtocolTCP, client4, service4)
	for port := range uint16(3) {
		h.receive(t, h.clients, flow.fromPort(port+1).frame(t))
	}
	eventually(t, "a signal that is taken", func() bool { return w.taken.Load() == 1 })
	must(t, h.RemoveService(s.ServiceKey))
	next := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.12", 80)
	h.set(t, next)
	h.receive(t, h.clients, flow.frame(t))
	close(w.hold)
	w.want(t, SignalOpened, s, flow.fromPort(1))
	w.want(t, SignalOpened, next, flow)
}

// A flow that moves to another backend with a repeated SYN opens there.
func TestSignalsOfMovedFlow(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	w := h.watch(t)
	syn := fromClient(ProtocolTCP, client4, service4)
	h.receive(t, h.clients, syn.frame(t))
	w.want(t, SignalOpened, s, syn)
	s = oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.12", 80)
	h.set(t, s)
	h.receive(t, h.clients, syn.frame(t))
	w.want(t, SignalOpened, s, syn)
	h.receive(t, h.clients, syn.acknowledging().frame(t))
	w.want(t, SignalAnswered, s, syn)
}

// A trace tells nothing and ends no handshake, a capture tells as the usual program does.
func TestSignalsOfWatchers(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	s.Tracking = TrackingFull // without, nobody would wait for the answer as long as programs take to load
	h.set(t, s)
	w := h.watch(t)
	syn := fromClient(ProtocolTCP, client4, service4)
	h.receive(t, h.clients, syn.frame(t))
	w.want(t, SignalOpened, s, syn)
	_, err := h.Trace([][]byte{syn.frame(t), syn.acknowledging().frame(t), syn.fromPort(1).frame(t)}, h.clients)
	must(t, err)
	c, err := h.Capture(Filter{})
	must(t, err)
	for _, p := range []packet{syn.acknowledging(), syn.fromPort(2)} {
		_, _, err := runProgram(c.objects.ShownBalancer, h.clients, p.frame(t))
		must(t, err)
	}
	w.want(t, SignalAnswered, s, syn)
	w.want(t, SignalOpened, s, syn.fromPort(2))
	h.receive(t, h.clients, syn.fromPort(2).acknowledging().frame(t))
	w.want(t, SignalAnswered, s, syn.fromPort(2))
	must(t, c.Run(t.Context(), func(Captured) bool { return false }))
}

// Signals that find the buffer full are counted and said to be missed, and fewer flows are watched at once.
func TestSignalsMissed(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	w := h.watchHolding(t)
	flow := fromClient(ProtocolTCP, client4, service4)
	const flows = 10000
	for port := range uint16(flows) {
		h.receive(t, h.clients, flow.fromPort(port+1).frame(t))
	}
	close(w.hold)
	if got := w.next(t); got.Kind != SignalOpened {
		t.Errorf("first signal is %+v", got)
	}
	if got := w.next(t); got.Kind != SignalMissed {
		t.Errorf("second signal is %+v", got)
	}
	stats := h.Stats()
	if stats.SignalsLost == 0 || stats.SignalsLost >= flows || stats.SignalEvery < 2 {
		t.Errorf("%d signals are lost, one flow of %d is watched", stats.SignalsLost, stats.SignalEvery)
	}
}

// One reads at a time, until its context or the dataplane ends.
func TestSignalsEnd(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	w := h.watch(t)
	if err := h.Signals(t.Context(), func(Signal) {}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second reader's error is %v, want ErrBusy", err)
	}
	must(t, w.end())
	if every := h.Stats().SignalEvery; every != 0 {
		t.Errorf("one flow of %d is watched when nobody listens", every)
	}
	ended := make(chan error)
	go func() { ended <- h.Signals(context.Background(), func(Signal) {}) }()
	eventually(t, "a watched flow", func() bool { return h.Stats().SignalEvery == 1 })
	must(t, h.Close())
	must(t, <-ended)
}

// The share of watched flows follows the rate of signals.
func TestSampler(t *testing.T) {
	start := time.Now()
	for name, test := range map[string]struct {
		every uint32
		came  []int // in one second after the other
		lost  bool
		want  uint32
	}{
		"idle":              {1, []int{0, 0, 0}, false, 1},
		"busy":              {1, []int{signalRate, signalRate, 0}, false, 1},
		"too busy":          {1, []int{signalRate + 1}, false, 2},
		"far too busy":      {1, []int{8*signalRate + 8}, false, 256},
		"busy again":        {4, []int{signalRate / 2, 0}, false, 4},
		"calm again":        {4, []int{signalRate/4 - 1, 0}, false, 2},
		"calm for long":     {4, []int{0, 0, 0, 0}, false, 1},
		"lost":              {1, []int{1}, true, 2},
		"cannot watch less": {maxEvery, []int{signalRate + 1}, true, maxEvery},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			s := newSampler(now)
			s.every = test.every
			for second, came := range test.came {
				if second > 0 {
					now = now.Add(time.Second)
					s.note(now, 0, false)
				}
				for range came {
					s.note(now, 1, test.lost)
				}
			}
			if s.every != test.want {
				t.Errorf("one of %d, want one of %d", s.every, test.want)
			}
		})
	}
}

// Where the slot decides, a packet is looked at for the answer of a handshake only if a SYN came lately.
func TestSignalsWithoutRecords(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	h.set(t, s)
	w := h.watch(t)
	c, err := h.Capture(Filter{})
	must(t, err)
	syn := fromClient(ProtocolTCP, client4, service4)
	for i, answer := range []func([]byte){
		func(frame []byte) { h.receive(t, h.clients, frame) },
		func(frame []byte) {
			_, _, err := runProgram(c.objects.ShownBalancer, h.clients, frame)
			must(t, err)
		},
	} {
		flow := syn.fromPort(uint16(10 * (i + 1)))
		h.receive(t, h.clients, flow.frame(t))
		w.want(t, SignalOpened, s, flow)
		answer(flow.acknowledging().frame(t))
		w.want(t, SignalAnswered, s, flow)
	}
	h.receive(t, h.clients, syn.frame(t))
	w.want(t, SignalOpened, s, syn)
	must(t, h.objects.Awaited.Put(uint32(0), balancerAwaited{}))
	h.receive(t, h.clients, syn.acknowledging().frame(t))
	w.wantNone(t, h, s, syn)
	must(t, c.Run(t.Context(), func(Captured) bool { return false }))
}
