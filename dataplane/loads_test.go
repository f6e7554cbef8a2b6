package dataplane

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// p2c is a service with the policy.
func p2c(mode Mode, backends ...Backend) Service {
	s := justEnough(backends...)
	s.Mode, s.Policy, s.Tracking = mode, PolicyP2C, TrackingDefault
	return s
}

// flags sends a segment from a port and returns the number of the backend that it goes to.
func (h *testHost) flags(t testing.TB, port uint16, flags string) int {
	t.Helper()
	p := fromClient(ProtocolTCP, client4, service4).fromPort(port)
	p.syn, p.fin, p.rst = flags == "syn", flags == "fin", flags == "rst"
	action, out := h.receive(t, h.clients, p.frame(t))
	wantAction(t, action, xdpRedirect)
	return int(out[5])
}

// active returns the flows in progress of each backend of a service, in their order, and their sum.
func (h *testHost) active(s Service) (each []int, sum int) {
	status, _ := h.ServiceStatus(s.ServiceKey)
	for _, b := range status.Backends {
		each = append(each, b.Active)
		sum += b.Active
	}
	return each, sum
}

// Flows end at the backend with less load of two: the loads stay close to one another, with about half of the flows
// remembered, and every flow stays where it was opened. Segments that are sent twice are counted once.
func TestP2C(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := p2c(ModeL2, servers(numbers(11, 21), 100)...)
	h.set(t, s)
	random := rand.New(rand.NewPCG(1, 1))
	open := make(map[uint16]int)
	opened := 0
	for port := uint16(1); port <= 6000; port++ {
		open[port] = h.flags(t, port, "syn")
		opened++
		for range random.IntN(2) {
			if again := h.flags(t, port, "syn"); again != open[port] {
				t.Fatalf("the same SYN went to %d and %d", open[port], again)
			}
		}
		if now := h.flags(t, port, "ack"); now != open[port] {
			t.Fatalf("the connection from port %d moved from %d to %d", port, open[port], now)
		}
		if random.IntN(2) == 0 {
			for _, flags := range []string{"fin", "fin", "rst"}[:1+random.IntN(3)] {
				if now := h.flags(t, port, flags); now != open[port] {
					t.Fatalf("%s from port %d went to %d instead of %d", flags, port, now, open[port])
				}
			}
			delete(open, port)
		}
	}
	each, sum := h.active(s)
	remembered := len(keys(t, h.objects.Flows4))
	t.Logf("%d open, active %v, %d of %d remembered", len(open), each, remembered, opened)
	// One of 65,536 places is taken by another flow now and then: an error of one each time.
	if sum < len(open)-len(open)/50 || sum > len(open)+len(open)/50 {
		t.Errorf("%d flows are counted, %d are open", sum, len(open))
	}
	for i, n := range each {
		if n < sum/10-5 || n > sum/10+5 {
			t.Errorf("backend %d has %d of %d flows", i, n, sum)
		}
	}
	if remembered*100 > 60*opened {
		t.Errorf("%d of %d flows are remembered", remembered, opened)
	}
	status, _ := h.ServiceStatus(s.ServiceKey)
	flows := 0
	for _, b := range status.Backends {
		flows += int(b.NewFlows)
	}
	// Two of these flows have the same hash, so the second one's first SYN passes for one that came before.
	if flows < opened-1 || flows > opened+opened/50 {
		t.Errorf("%d new flows are counted of %d", flows, opened)
	}
}

// Weights count, and a backend that is new is found, but not by all flows at once: only by those that meet one of its
// slots.
func TestP2CWeightsAndNewBackends(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := p2c(ModeL2, servers(numbers(11, 15), 100)...)
	s.Backends[0].Weight = 300
	h.set(t, s)
	for port := range uint16(3000) {
		h.flags(t, port, "syn")
	}
	if each, _ := h.active(s); each[0] < 1450 || each[0] > 1550 || each[1] < 450 || each[1] > 550 {
		t.Errorf("weights 300 and 100, 100, 100 have %v of 3,000 flows", each)
	}
	s.Backends = append(s.Backends, servers([]int{30}, 100)...)
	h.set(t, s)
	for port := range uint16(400) {
		h.flags(t, 10000+port, "syn")
	}
	// It has 1/7 of the slots, so two choices meet it with 1 - (6/7)^2 = 27 %.
	if each, _ := h.active(s); each[4] < 70 || each[4] > 145 {
		t.Errorf("the new one has %d of 400 new flows", each[4])
	}
}

// In nat mode either side's end counts, and only once; all flows are remembered anyway.
func TestP2CInNAT(t *testing.T) {
	options := testOptions(t)
	options.NATPorts = PortRange{First: 5000, Last: 9000}
	h := newTestHost(t, options)
	s := p2c(ModeNAT, servers([]int{11, 12}, 100)...)
	h.set(t, s)
	frames := make(map[uint16][]byte)
	for port := uint16(1); port <= 100; port++ {
		_, frames[port] = h.receive(t, h.clients, fromClient(ProtocolTCP, client4, service4).fromPort(port).frame(t))
		h.flags(t, port, "syn")
	}
	if each, sum := h.active(s); sum != 100 || each[0] < 48 || each[0] > 52 {
		t.Fatalf("active %v of 100", each)
	}
	for port := uint16(1); port <= 60; port++ {
		if port <= 30 {
			h.flags(t, port, "fin")
		}
		server, _ := netip.AddrFromSlice(frames[port][30:34])
		reply := packet{
			from: serverMAC(int(frames[port][33])), to: serversMAC, source: server, target: addr("198.51.100.1"),
			sport: 80, dport: sourcePort(frames[port]), protocol: ProtocolTCP, fin: true,
		}
		action, _ := h.receive(t, h.servers, reply.frame(t))
		wantAction(t, action, xdpRedirect)
		h.flags(t, port, "rst")
	}
	if _, sum := h.active(s); sum != 40 {
		t.Errorf("%d flows are counted, 40 are open", sum)
	}
}

// Flows that were never seen to close are forgotten in time, those of a backend that fails at once.
func TestP2CForgets(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := p2c(ModeL2, servers([]int{11, 12}, 100)...)
	h.set(t, s)
	for port := range uint16(1000) {
		h.flags(t, port, "syn")
	}
	for range 4 * 10 { // as the sweep does, four a minute
		h.decayLoads(15 * time.Second)
	}
	if _, sum := h.active(s); sum < 360 || sum > 376 { // 1000/e
		t.Errorf("%d of 1,000 flows are left after %s", sum, loadMemory)
	}
	for range 4 * 100 {
		h.decayLoads(15 * time.Second)
	}
	if _, sum := h.active(s); sum > 2 {
		t.Errorf("%d flows are left after %s", sum, 11*loadMemory)
	}
	h.flags(t, 2000, "syn")
	s.Backends[0].Down, s.Backends[1].Down = true, true
	must(t, h.SetService(s))
	if _, sum := h.active(s); sum != 0 {
		t.Errorf("backends that are down have %d flows", sum)
	}
}

// The flows of a backend that drains are counted until the last is gone, whatever is remembered of them.
func TestLiveFlows(t *testing.T) {
	const idle = time.Minute
	for name, service := range map[string]Service{
		"full":        {Mode: ModeL2},
		"just-enough": {Mode: ModeL2, Tracking: TrackingJustEnough},
		"p2c":         {Mode: ModeL2, Policy: PolicyP2C},
		"nat":         {Mode: ModeNAT},
	} {
		t.Run(name, func(t *testing.T) {
			options := testOptions(t)
			options.NATPorts = PortRange{First: 5000, Last: 9000}
			h := newTestHost(t, options)
			s := justEnough(servers([]int{11, 12}, 100)...)
			s.Mode, s.Tracking, s.Policy = service.Mode, service.Tracking, service.Policy
			h.set(t, s)
			var here []uint16
			for port := range uint16(40) {
				if h.flags(t, port, "syn"); h.flags(t, port, "ack") == 11 {
					here = append(here, port)
				}
			}
			count := func() int {
				n, err := h.LiveFlows(s.ServiceKey, s.Backends[0].endpoint(), idle)
				must(t, err)
				return n
			}
			s.Backends[0].Weight = 0
			h.set(t, s)
			if n := count(); n < len(here)*8/10 { // two may share a slot
				t.Errorf("%d flows are counted of %d", n, len(here))
			}
			for i := range 3 { // all but two are silent
				h.flags(t, here[0], "ack")
				h.flags(t, here[1], []string{"ack", "fin", "ack"}[i])
				h.later(t, ticksOf(idle)-2)
			}
			if n := count(); n != 2 {
				t.Errorf("%d flows are counted, 2 are alive", n)
			}
			h.later(t, ticksOf(idle)+2)
			if n := count(); n != 0 {
				t.Errorf("%d flows are counted, the last is gone", n)
			}
		})
	}
	h := newTestHost(t, testOptions(t))
	s := justEnough(servers([]int{11}, 100)...)
	for _, kind := range []Tracking{TrackingJustEnough, TrackingNone} {
		s.Tracking = kind
		h.set(t, s)
		if _, err := h.LiveFlows(s.ServiceKey, s.Backends[0].endpoint(), idle); !errors.Is(err, ErrUnknown) {
			t.Errorf("tracking %s: error is %v, want ErrUnknown", kind, err)
		}
	}
	if _, err := h.LiveFlows(s.ServiceKey, netip.AddrPort{}, idle); err == nil {
		t.Error("the flows of no backend are counted")
	}
}
