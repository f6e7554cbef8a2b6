package dataplane

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// fuzzServices are services of every mode, family and protocol, with every option.
func fuzzServices() []Service {
	var services []Service
	add := func(protocol Protocol, address string, port uint16, mode Mode, backend string, change func(*Service)) {
		s := oneBackend(protocol, address, mode, backend, port)
		s.Port = port
		if mode == ModeNAT {
			s.Backends[0].Port = 8080
		}
		if change != nil {
			change(&s)
		}
		services = append(services, s)
	}
	for _, f := range []struct{ service, backend, other, denied, mine string }{
		{service4, "198.51.100.11", "2001:db8:2::b", "192.0.2.128/25", "192.0.2.9/32"},
		{service6, "2001:db8:2::b", "198.51.100.11", "2001:db8:1:0:8000::/65", "2001:db8:1::9/128"},
	} {
		canary := func(s *Service) {
			s.Sources = []SourceRule{{Prefix: netip.MustParsePrefix(f.denied), Deny: true}, {Prefix: netip.MustParsePrefix(f.mine), Set: "canary"}}
			s.Backends = append(s.Backends, s.Backends[0])
			s.Backends[1].Port++
			s.Backends[1].Set = "canary"
		}
		add(ProtocolTCP, f.service, 80, ModeNAT, f.backend, func(s *Service) { s.ClampMSS = 1000; canary(s) })
		add(ProtocolUDP, f.service, 80, ModeNAT, f.backend, nil)
		add(ProtocolTCP, f.service, 81, ModeL2, f.backend, func(s *Service) { s.Hash = Hash{Kind: HashSource, Prefix: 20} })
		add(ProtocolTCP, f.service, 82, ModeIPIP, f.backend, func(s *Service) { s.ClampMSS = MSSAuto })
		add(ProtocolTCP, f.service, 83, ModeIPIP, f.other, nil)
		add(ProtocolTCP, f.service, 87, ModeGUE, f.backend, func(s *Service) { s.Tracking = TrackingJustEnough; canary(s) })
		add(ProtocolTCP, f.service, 88, ModeL2, f.backend, func(s *Service) {
			s.Policy = PolicyP2C
			s.Backends = append(s.Backends, s.Backends[0])
			s.Backends[1].Port++
		})
		add(ProtocolUDP, f.service, 84, ModeGUE, f.backend, func(s *Service) {
			s.QUIC = QUIC{Config: 2, ServerIDLength: 3}
			s.Backends[0].ServerID = "abc"
		})
		add(ProtocolUDP, f.service, 85, ModeGUE, f.other, func(s *Service) { s.Limit = Limit{Rate: 1, Burst: 100, Prefix: 24} })
		add(ProtocolSCTP, f.service, 0, ModeIPIP, f.backend, func(s *Service) { s.Hash.Kind = HashNoSourcePort })
		add(ProtocolUDP, f.service, 86, ModeNAT, f.backend, func(s *Service) { s.Backends[0].Down = true })
	}
	return services
}

// fuzzSeeds are packets for each of the services, and some that come back.
func fuzzSeeds(f *testing.F) [][]byte {
	var seeds [][]byte
	for _, s := range fuzzServices() {
		client := client4
		if s.Address.Is6() {
			client = client6
		}
		p := fromClient(s.Protocol, client, s.Address.String())
		p.dport = max(s.Port, 80)
		seeds = append(seeds, p.frame(f), p.tagged(7).frame(f), p.tagged(7, 8).frame(f))
		if s.Protocol == ProtocolSCTP {
			continue
		}
		p.payload = "\x80\x00\x00\x00\x01\x08\x42abc4567" // the connection ID of a server
		seeds = append(seeds, p.frame(f))
		p.payload = string(make([]byte, 1470))
		seeds = append(seeds, p.frame(f))
		reply := fromClient(s.Protocol, s.Backends[0].Address.String(), map[bool]string{true: "198.51.100.1", false: "2001:db8:2::1"}[s.Backends[0].Address.Is4()])
		reply.sport, reply.dport = s.Backends[0].Port, 5000
		seeds = append(seeds, reply.frame(f), reply.resetting().frame(f))
		if s.Address.Is6() == s.Backends[0].Address.Is6() {
			router := packet{from: clientMAC, to: clientsMAC, source: addr(client), target: s.Address}
			answer := fromClient(s.Protocol, s.Address.String(), client)
			answer.sport, answer.dport = p.dport, p.sport
			kind, code := uint8(3), uint8(4)
			if s.Address.Is6() {
				kind, code = 2, 0
			}
			seeds = append(seeds, icmpFrame(f, router, kind, code, quote(f, answer)))
			unreachable := map[bool]uint8{true: 1, false: 3}[s.Address.Is6()]
			router.target = reply.target
			seeds = append(seeds, icmpFrame(f, router, unreachable, 1, quote(f, reply.translated(reply.target.String(), reply.dport, reply.source.String(), reply.sport))))
		}
	}
	echo := packet{from: clientMAC, to: clientsMAC, source: addr(client4), target: addr(service4)}
	return append(seeds, icmpFrame(f, echo, 8, 0, []byte("payload")))
}

// FuzzBalancer gives the balancer frames that are nearly right, and holds it to what is true of every frame; see
// world.check. A repaired frame has right lengths and checksums whatever else it has.
func FuzzBalancer(f *testing.F) {
	options := testOptions(f)
	options.NATPorts = PortRange{5000, 5007}
	h := newTestHost(f, options)
	for _, s := range fuzzServices() {
		h.set(f, s)
	}
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed, true, true)
		f.Add(seed, false, false)
	}
	tracer, err := h.newTracer(1 << 16)
	must(f, err)
	f.Cleanup(func() { must(f, tracer.close()) })
	must(f, tracer.objects.Sampling.Put(uint32(0), balancerSampling{Every: 1})) // for what packets do then; nobody reads
	run := h.runner(tracer)
	world := h.world()
	runs := 0
	f.Fuzz(func(t *testing.T, frame []byte, fromClients, repaired bool) {
		if len(frame) < ethernetHeader || len(frame) > 3000 {
			return // no interface delivers that
		}
		if repaired {
			frame = repair(frame)
		}
		ifindex := h.servers
		if fromClients {
			ifindex = h.clients
		}
		fate := run(t, frame, ifindex)
		if runs++; runs%512 == 1 {
			if ends := tracer.ends(t); ends != uint64(runs) {
				t.Fatalf("%d packets ended %d times", runs, ends)
			}
		}
		world.check(t, frame, fate)
	})
}

// runner returns a function that traces a frame in the host's namespace, in a goroutine that stays there: every run
// of a fuzz function is one of its own.
func (h *testHost) runner(tracer *tracer) func(t *testing.T, frame []byte, ifindex int) Traced {
	type job struct {
		frame   []byte
		ifindex int
	}
	type outcome struct {
		fate Traced
		err  error
	}
	jobs, outcomes := make(chan job), make(chan outcome)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the process
		err := netns.Set(h.namespace)
		for j := range jobs {
			var fate Traced
			if err == nil {
				fate, err = tracer.run(j.frame, j.ifindex)
			}
			outcomes <- outcome{fate, err}
		}
	}()
	return func(t *testing.T, frame []byte, ifindex int) Traced {
		t.Helper()
		jobs <- job{bytes.Clone(frame), ifindex}
		done := <-outcomes
		must(t, done.err)
		return done.fate
	}
}

// world is what there is to send packets to.
type world struct {
	backends map[netip.Addr]bool
	modes    map[ServiceKey]Mode
}

func (h *testHost) world() world {
	w := world{make(map[netip.Addr]bool), make(map[ServiceKey]Mode)}
	for _, s := range h.Services() {
		w.modes[s.ServiceKey] = s.Mode
		for _, b := range s.Backends {
			w.backends[b.Address] = true
		}
	}
	return w
}

// ends is the number of packets that have ended in any way.
func (t *tracer) ends(tb testing.TB) (sum uint64) {
	tb.Helper()
	for reason := range t.dataplane.names {
		var counts []uint64
		must(tb, t.objects.Reasons.Lookup(uint32(reason), &counts))
		for _, count := range counts {
			sum += count
		}
	}
	for _, st := range t.dataplane.state {
		for _, b := range st.backends {
			var counts []balancerCounters
			must(tb, t.objects.Counters.Lookup(uint32(b.index), &counts))
			for _, c := range counts {
				sum += c.Packets + c.Replies
			}
		}
	}
	return sum
}

// largestGrowth is what the outer headers of gue in IPv6, or an ICMP error, add to a packet, and what two tags
// can add to its link header.
const largestGrowth = 40 + 12 + 8

// check holds what became of a frame against what is true of all: what passes is untouched; what leaves did
// not grow by more than the largest headers, has right checksums if it had, and goes to a backend, or back to
// where it came from; a packet that is encapsulated, or rewritten in its link header only, is otherwise the same.
func (w world) check(t *testing.T, in []byte, fate Traced) {
	t.Helper()
	before, after := dissect(in), dissect(fate.Frame)
	if len(fate.Frame) > len(in)+largestGrowth {
		t.Errorf("%d bytes became %d", len(in), len(fate.Frame))
	}
	switch {
	case fate.Action == "pass":
		if !bytes.Equal(fate.Frame, in) {
			t.Error("a frame that passes is changed")
		}
		return
	case fate.Action == "drop":
		return
	case !after.ok:
		t.Fatalf("%s: what leaves is no IP packet: %x", fate.Reason, fate.Frame)
	case before.valid() && !after.valid():
		t.Errorf("%s: checksums were right and are wrong", fate.Reason)
	}
	switch fate.Reason {
	case "to_backend":
		w.checkToBackend(t, before, after, fate)
	case "to_client":
		if w.backends[after.target] && !w.backends[before.target] {
			t.Errorf("a reply goes to backend %s", after.target)
		}
	case "answer_echo", "answer_too_big":
		if after.source != before.target || after.target != before.source {
			t.Errorf("%s: %s -> %s is answered by %s -> %s", fate.Reason, before.source, before.target, after.source, after.target)
		}
	default:
		t.Errorf("%s leaves", fate.Reason)
	}
}

func (w world) checkToBackend(t *testing.T, before, after dissected, fate Traced) {
	t.Helper()
	mode := w.modes[fate.Service]
	if mode != ModeL2 && after.target != fate.Backend.Addr() {
		t.Errorf("%s: it goes to %s and not to backend %s", mode, after.target, fate.Backend)
	}
	if !w.backends[fate.Backend.Addr()] {
		t.Errorf("%s is no backend", fate.Backend)
	}
	inner := after.packet
	switch {
	case mode == ModeNAT:
		return
	case mode == ModeIPIP:
		inner = after.packet[after.header:]
	case mode == ModeGUE:
		inner = after.packet[after.header+12:]
	}
	if !before.mayBeClamped() && !bytes.HasPrefix(before.frame(), inner) {
		t.Errorf("%s: the packet is changed:\n%x\n%x", mode, before.packet, inner)
	}
}
