package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netns"
)

// The servers of two sets that a service is switched between: one has few and one has many, so that their
// tables differ in size, and even with the same size nothing of one is in the other.
var fewServers, manyServers = numbers(110, 114), numbers(2, 102)

func numbers(from, to int) (list []int) {
	for n := from; n < to; n++ {
		list = append(list, n)
	}
	return list
}

func servers(numbers []int, weight uint16) (backends []Backend) {
	for _, n := range numbers {
		backends = append(backends, Backend{Address: addr(fmt.Sprintf("198.51.100.%d", n)), Port: 80, Weight: weight})
	}
	return backends
}

func udpService(backends ...Backend) Service {
	return Service{ServiceKey: ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolUDP}, Mode: ModeL2, Backends: backends}
}

// watchSets sends packets, each of a flow of its own, until stop is closed. It returns how many were sent,
// and how often one went to another set than the one before.
func (h *testHost) watchSets(stop <-chan struct{}) (sent, changes int, err error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := netns.Set(h.namespace); err != nil {
		return 0, 0, err
	}
	frame := fromClient(ProtocolUDP, client4, service4)
	frame.noChecksum = true
	bytes := frame.frame(new(testing.T))
	previous := -1
	for ; ; sent++ {
		select {
		case <-stop:
			return sent, changes, nil
		default:
		}
		bytes[14+12+2], bytes[14+12+3] = byte(sent>>16), byte(sent>>24) // source address
		bytes[34], bytes[35] = byte(sent>>8), byte(sent)                // source port
		action, out, err := h.try(bytes)
		if err != nil || action != xdpRedirect {
			reasons, _ := h.Reasons()
			return sent, changes, fmt.Errorf("packet %d: action %d, %v, %w", sent, action, reasons, err)
		}
		set := 0
		if out[5] >= 110 {
			set = 1
		}
		if previous >= 0 && set != previous {
			changes++
		}
		previous = set
	}
}

// A packet sees the old table or the new one, never a mixture: a service is switched 1,000 times, and the
// packets, one after the other, change sides no more often than that. The memory for slots is so small that
// each region is used again at once.
func TestSwitchIsAtomic(t *testing.T) {
	const switches = 1000
	options := testOptions(t)
	options.Limits.Slots = 2*16381 + 512
	h := newTestHost(t, options)
	few, many := servers(fewServers, 100), servers(manyServers, 100)
	sets := map[string][2]Service{
		"other backends": {udpService(few...), udpService(many...)},
		"other weights":  {udpService(append(servers(fewServers, 0), many...)...), udpService(append(servers(manyServers, 0), few...)...)},
	}
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			h.set(t, set[1])
			sent, changes := h.switching(t, switches, func(i int) { must(t, h.SetService(set[i%2])) })
			t.Logf("%d packets changed sides %d times in %d switches", sent, changes, switches)
			if changes > switches {
				t.Errorf("%d packets changed sides %d times in %d switches", sent, changes, switches)
			}
			if changes < switches/10 {
				t.Errorf("packets saw only %d of %d switches: too few to tell", changes, switches)
			}
		})
	}
	// The same test must notice a switch that is not atomic: a table that is overwritten where it is.
	t.Run("overwriting is noticed", func(t *testing.T) {
		h := h.here(t)
		h.set(t, sets["other weights"][0])
		st := h.state[udpService().ServiceKey]
		indices := func(numbers []int) (list []uint32) {
			for _, n := range numbers {
				list = append(list, st.backends[netip.AddrPortFrom(addr(fmt.Sprintf("198.51.100.%d", n)), 80)].index)
			}
			return list
		}
		sides := [2][]uint32{indices(manyServers), indices(fewServers)}
		sent, changes := h.switching(t, switches, func(i int) {
			h.mu.Lock()
			defer h.mu.Unlock()
			table := h.slots.of(st.sets[""].table)
			for slot := range table {
				side := sides[(i+1)%2]
				table[slot].store(newSlot(side[slot%len(side)], 0))
			}
		})
		t.Logf("%d packets changed sides %d times in %d switches that are not atomic", sent, changes, switches)
		if changes <= switches {
			t.Error("nothing noticed: the test cannot tell a torn table")
		}
	})
}

// switching runs the switches while packets flow.
func (h *testHost) switching(t testing.TB, switches int, next func(i int)) (sent, changes int) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan error)
	var err error
	go func() {
		sent, changes, err = h.watchSets(stop)
		done <- err
	}()
	for i := range switches {
		next(i)
	}
	close(stop)
	must(t, <-done)
	return sent, changes
}

// Weights decide how many flows a backend gets.
func TestWeights(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := udpService(servers([]int{11, 12, 13}, 100)...)
	s.Backends[1].Weight, s.Backends[2].Weight = 300, 0
	h.set(t, s)
	counts := make(map[netip.Addr]int)
	in := fromClient(ProtocolUDP, client4, service4)
	const flows = 20000
	for port := range flows {
		counts[h.backendOf(t, in.fromPort(uint16(port+1)))]++
	}
	if share := float64(counts[addr("198.51.100.12")]) / flows; share < 0.73 || share > 0.77 || counts[addr("198.51.100.13")] != 0 {
		t.Errorf("weights 100, 300 and 0 got flows %v", counts)
	}
}

// The table does not depend on the order of the backends, and setting what is there changes nothing.
func TestSetServiceIsIdempotent(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := udpService(servers(manyServers, 100)...)
	h.set(t, s)
	before := h.Stats()
	slices.Reverse(s.Backends)
	must(t, h.SetService(s))
	if after := h.Stats(); after != before {
		t.Errorf("setting the same service again turned %+v into %+v", before, after)
	}
}

// An impossible service is refused with its reason, and nothing has changed.
func TestRefusedService(t *testing.T) {
	options := testOptions(t)
	options.Limits = Limits{Services: 2, Backends: 5, Slots: 600, Flows: 64, TableSlots: 1021}
	h := newTestHost(t, options)
	good := udpService(servers([]int{11, 12}, 100)...)
	must(t, h.SetService(good))
	second := good
	second.Port = 81
	must(t, h.SetService(Service{ServiceKey: second.ServiceKey}))
	third := good
	third.Port = 82
	for name, test := range map[string]struct {
		service Service
		want    error
	}{
		"named twice":    {udpService(servers([]int{11, 11}, 1)...), ErrInvalid},
		"another family": {udpService(Backend{Address: addr("2001:db8::1")}), ErrInvalid},

		"no address":        {udpService(Backend{}), ErrInvalid},
		"too many services": {third, ErrFull},
		"too many backends": {udpService(servers(numbers(11, 17), 1)...), ErrFull},
		"too many slots":    {udpService(servers(numbers(11, 16), 1)...), ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			before, stats := h.Services(), h.Stats()
			if err := h.SetService(test.service); !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
			eventually(t, "an unchanged dataplane", func() bool {
				return slices.EqualFunc(h.Services(), before, func(a, b Service) bool {
					return a.ServiceKey == b.ServiceKey && slices.Equal(a.Backends, b.Backends)
				}) && h.Stats() == stats
			})
		})
	}
}

// The default limits hold what they promise: 4,096 services and 65,535 backends in all.
func TestLargest(t *testing.T) {
	options := testOptions(t)
	options.Limits = Limits{Flows: 1024}
	inNamespace(t)
	addInterface(t, "eth1", serversMAC, "10.0.0.1/8")
	d := openTest(t, options)
	for n := range 4096 {
		s := Service{ServiceKey: ServiceKey{Address: addr("192.0.2.100"), Port: uint16(n + 1), Protocol: ProtocolTCP}}
		for b := range 16 {
			if n == 0 && b == 0 {
				continue // 65,535
			}
			s.Backends = append(s.Backends, Backend{Address: netip.AddrFrom4([4]byte{10, 1, byte(b), 1}), Port: 80, Weight: 100})
		}
		must(t, d.SetService(s))
	}
	stats := d.Stats()
	if stats.ServicesUsed != 4096 || stats.BackendsUsed != 65535 {
		t.Errorf("stats are %+v", stats)
	}
	if err := d.SetService(oneBackend(ProtocolUDP, "192.0.2.101", ModeNAT, "10.1.0.1", 80)); !errors.Is(err, ErrFull) {
		t.Errorf("one more service: error is %v, want ErrFull", err)
	}
	must(t, d.RemoveService(ServiceKey{Address: addr("192.0.2.100"), Port: 7, Protocol: ProtocolTCP}))
	must(t, d.SetService(oneBackend(ProtocolUDP, "192.0.2.101", ModeNAT, "10.1.0.1", 80)))
}

// One service with 1,000 backends.
func TestThousandBackends(t *testing.T) {
	options := testOptions(t)
	inNamespace(t)
	addInterface(t, "eth1", serversMAC, "10.0.0.1/8")
	d := openTest(t, options)
	var s Service
	s.ServiceKey = ServiceKey{Address: addr(service4), Port: 80, Protocol: ProtocolTCP}
	for n := range 1000 {
		s.Backends = append(s.Backends, Backend{Address: netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), Port: 80, Weight: 100})
	}
	must(t, d.SetService(s))
	status, _ := d.ServiceStatus(s.ServiceKey)
	if status.Slots != 65537 {
		t.Errorf("the table has %d slots", status.Slots)
	}
	for _, b := range status.Backends {
		if b.Slots < 65 || b.Slots > 66 {
			t.Fatalf("%s has %d slots", b.Address, b.Slots)
		}
	}
}

// Indices and regions come back, also while nothing waits for them.
func TestNothingLeaks(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	for n := range 50 {
		s := udpService(servers(numbers(2+n, 12+n), 100)...)
		must(t, h.SetService(s))
		s.Mode = ModeNAT
		must(t, h.SetService(s))
		must(t, h.RemoveService(s.ServiceKey))
	}
	eventually(t, "an empty dataplane", func() bool {
		s := h.Stats()
		return s.ServicesUsed == 0 && s.BackendsUsed == 0 && s.SlotsUsed == 0
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.hops) != 0 || len(h.regions.free) != 1 || h.freeIndex.services.used != 0 {
		t.Errorf("left over: %d next hops, %d free regions, %d services", len(h.hops), len(h.regions.free), h.freeIndex.services.used)
	}
}

// try runs the balancer without a test to fail.
func (h *testHost) try(frame []byte) (uint32, []byte, error) {
	return runProgram(h.objects.Balancer, h.clients, frame)
}

// The size of a table follows the number of configured backends also when those that take flows stay the same.
func TestTableSizeFollows(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := oneBackend(ProtocolTCP, service4, ModeL2, "198.51.100.11", 80)
	slots := func() int {
		h.set(t, s)
		status, _ := h.ServiceStatus(s.ServiceKey)
		return status.Slots
	}
	for n := 12; n <= 21; n++ {
		s.Backends = append(s.Backends, Backend{Address: addr(fmt.Sprintf("198.51.100.%d", n)), Port: 80, Weight: 100})
	}
	ten := s
	ten.Backends = s.Backends[:10]
	s.Backends[10].Weight = 0
	with := slots()
	s = ten
	if without := slots(); without >= with {
		t.Errorf("the table has %d slots with 11 backends and %d with 10", with, without)
	}
}

// A service whose entry is gone already is removed all the same, and echo requests for its address are answered
// no more, also when only that is left to do.
func TestRemoveServiceHalfGone(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := udpService(servers(fewServers, 100)...)
	h.set(t, s)
	must(t, h.objects.Services4.Delete(mapKey(s.ServiceKey)))
	must(t, h.RemoveService(s.ServiceKey))
	if left := keys(t, h.objects.Services4); len(left) != 0 || len(h.state) != 0 {
		t.Errorf("of the removed service there are %x and %v", left, h.state)
	}
	must(t, h.answerEcho(s.Address))
	must(t, h.RemoveService(s.ServiceKey))
	if left := keys(t, h.objects.Services4); len(left) != 0 {
		t.Errorf("of the removed service there are %x", left)
	}
}
