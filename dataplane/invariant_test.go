package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
)

// connections are a service whose backends come, go, drain, fail and recover while clients have connections, and what
// a client would know of them: which backend answered its SYN.
type connections struct {
	*testHost
	options Options
	random  *rand.Rand
	service Service
	state   map[int]string // of the backends that are there: up, draining or down
	open    map[uint16]*connection
}

// connection is known by its client's port.
type connection struct {
	backend int
	lost    bool // the backend was down or away since it was opened
}

// TestNoConnectionMoves is the invariant of tracking: no connection to a backend that is up or draining ever
// changes backend, whatever happens to others. Thousands of random changes, each between packets.
func TestNoConnectionMoves(t *testing.T) {
	for _, test := range []struct {
		name    string
		service string
		kinds   []Service // whose tracking and policy the service has, one after the other
		steps   int
		seeds   uint64
	}{
		{"just-enough", service4, []Service{{Tracking: TrackingJustEnough}}, 4000, 2},
		{"just-enough IPv6", service6, []Service{{Tracking: TrackingJustEnough}}, 2000, 2},
		{"p2c", service4, []Service{{Policy: PolicyP2C}}, 4000, 2},
		{"full", service4, []Service{{Tracking: TrackingFull}}, 2000, 2},
		{"changing", service4, []Service{
			{Tracking: TrackingJustEnough}, {Tracking: TrackingFull}, {Policy: PolicyP2C}, {Tracking: TrackingJustEnough}, {Policy: PolicyP2C, Tracking: TrackingFull},
		}, 6000, 9},
	} {
		for seed := range test.seeds {
			t.Run(fmt.Sprintf("%s seed %d", test.name, seed), func(t *testing.T) {
				w := newConnections(t, test.service, seed)
				for step := range test.steps {
					if step%(test.steps/8/len(test.kinds)) == 0 {
						kind := test.kinds[w.random.IntN(len(test.kinds))]
						w.service.Tracking, w.service.Policy = kind.Tracking, kind.Policy
						w.apply(t)
					}
					w.step(t)
				}
				w.end(t)
			})
		}
	}
}

func newConnections(t *testing.T, service string, seed uint64) *connections {
	options := testOptions(t)
	options.Limits.Backends = 1 << 17
	w := &connections{
		testHost: newTestHost(t, options),
		options:  options,
		random:   rand.New(rand.NewPCG(seed, 7)),
		service:  Service{ServiceKey: ServiceKey{Address: addr(service), Port: 80, Protocol: ProtocolTCP}, Mode: ModeL2},
		state:    make(map[int]string),
		open:     make(map[uint16]*connection),
	}
	w.freeIndex.backends.next = 1<<16 - 3 // indices of 16 bits, and larger ones
	for n := 10; n < 15; n++ {
		w.state[n] = "up"
	}
	return w
}

// step does one thing by chance.
func (w *connections) step(t *testing.T) {
	switch w.random.IntN(60) {
	case 0:
		w.change(t)
	case 1:
		w.pass(t)
	case 2:
		must(t, w.sweep(false))
	case 3:
		if w.random.IntN(20) == 0 {
			w.restart(t)
		}
	default:
		w.talk(t)
	}
}

// change has something happen to one backend, or adds one.
func (w *connections) change(t *testing.T) {
	n := 10 + w.random.IntN(30)
	if w.random.IntN(2) == 0 || len(w.state) > 25 { // rather one that is there
		there := slices.Sorted(keysOf(w.state))
		if len(there) > 0 {
			n = there[w.random.IntN(len(there))]
		}
	}
	switch before := w.state[n]; {
	case before == "":
		w.state[n] = "up"
	case w.random.IntN(4) == 0:
		delete(w.state, n)
	case before == "up":
		w.state[n] = []string{"draining", "down"}[w.random.IntN(2)]
	default:
		w.state[n] = "up"
	}
	w.apply(t)
}

func keysOf[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// apply tells the dataplane what the backends are by now, those that are up with some weight.
func (w *connections) apply(t *testing.T) {
	w.service.Backends = nil
	for _, n := range slices.Sorted(keysOf(w.state)) {
		b := Backend{Address: w.address(n), Port: 80, Down: w.state[n] == "down"}
		if w.state[n] == "up" {
			b.Weight = uint16(1 + w.random.IntN(3))
		}
		w.service.Backends = append(w.service.Backends, b)
	}
	w.set(t, w.service)
	for _, c := range w.open {
		if state := w.state[c.backend]; state != "up" && state != "draining" {
			c.lost = true
		}
	}
}

func (w *connections) address(n int) netip.Addr {
	if w.service.Address.Is4() {
		return addr(fmt.Sprintf("198.51.100.%d", n))
	}
	return addr(fmt.Sprintf("2001:db8:2::%x", n))
}

// talk has a client open, use or close the connection of a port.
func (w *connections) talk(t *testing.T) {
	port := uint16(1 + w.random.IntN(600))
	c := w.open[port]
	switch {
	case c == nil || (c.lost && w.random.IntN(2) == 0):
		delete(w.open, port)
		if n := w.send(t, port, "syn"); n != 0 {
			w.open[port] = &connection{backend: n}
			w.use(t, port, "ack")
		}
	case w.random.IntN(4) == 0:
		w.use(t, port, []string{"fin", "rst"}[w.random.IntN(2)])
		delete(w.open, port)
	default:
		w.use(t, port, "ack")
	}
}

// use sends a packet of an open connection, which must come where it was opened.
func (w *connections) use(t *testing.T, port uint16, what string) {
	c := w.open[port]
	if n := w.send(t, port, what); n != c.backend && !c.lost {
		t.Fatalf("the connection from port %d moved from backend %d, which is %s, to %d (%s), with %+v",
			port, c.backend, w.state[c.backend], n, what, w.service)
	}
}

// send returns the number of the backend that a packet of a client goes to, 0 when it is dropped.
func (w *connections) send(t *testing.T, port uint16, what string) int {
	client := client4
	if w.service.Address.Is6() {
		client = client6
	}
	p := fromClient(ProtocolTCP, client, w.service.Address.String()).fromPort(port)
	p.syn, p.fin, p.rst = what == "syn", what == "fin", what == "rst"
	action, out := w.receive(t, w.clients, p.frame(t))
	if action == xdpDrop {
		return 0
	}
	return int(out[5])
}

// pass lets more than half of the idle timeout pass, within which every client says something.
func (w *connections) pass(t *testing.T) {
	for port := range w.open {
		w.use(t, port, "ack")
	}
	w.later(t, ticksOf(defaultIdle)*6/10)
	if w.random.IntN(2) == 0 {
		must(t, w.sweep(false))
	}
}

// later has so many ticks pass.
func (h *testHost) later(t testing.TB, ticks uint32) {
	t.Helper()
	h.age(t, ticks)
	h.mu.Lock()
	defer h.mu.Unlock()
	must(t, h.reclaim()) // which may note what passed now
	for _, st := range h.state {
		st.agesSince -= ticks
		if st.fullSince != 0 {
			st.fullSince -= ticks
		}
		for _, b := range st.backends {
			b.drainingSince -= ticks
		}
		for _, set := range st.sets {
			atomic.AddUint32(&h.olders.items[set.index].Seen, -ticks)
			for i := range set.since {
				if set.since[i] != 0 {
					set.since[i] -= ticks
				}
			}
			table := h.slots.of(set.table)
			for i := range table {
				table[i].note(table[i].load().seen() - uint16(ticks))
			}
		}
	}
}

// restart has another process take over.
func (w *connections) restart(t *testing.T) {
	must(t, w.Close())
	w.Dataplane = openTest(t, w.options)
	w.apply(t)
}

// end closes everything.
func (w *connections) end(t *testing.T) {
	for port := range w.open {
		w.use(t, port, "fin")
	}
	w.wantAllOver(t, w.service)
}

// wantAllOver has time pass after which, with every connection closed, all transitions have ended and nothing is
// remembered in stable slots.
func (h *testHost) wantAllOver(t *testing.T, s Service) {
	t.Helper()
	before, _ := h.ServiceStatus(s.ServiceKey)
	for range 4 { // the older table, what it left in transition, and what is remembered
		h.later(t, ticksOf(defaultIdle)+2)
		must(t, h.sweep(true))
	}
	after, _ := h.ServiceStatus(s.ServiceKey)
	t.Logf("%+v became %+v", before.Tracking, after.Tracking)
	if after.Tracking.InTransition != 0 || after.Tracking.OldestSeconds != 0 {
		t.Errorf("with no connection left there are still slots in transition: %+v", after.Tracking)
	}
	if s.tracking() == TrackingJustEnough && s.Policy == PolicyMaglev && after.Tracking.Remembered != 0 {
		t.Errorf("%d flows are remembered in stable slots", after.Tracking.Remembered)
	}
	for _, set := range h.state[s.ServiceKey].sets {
		if set.older.size != 0 {
			t.Error("the table of another size is still there")
		}
	}
}
