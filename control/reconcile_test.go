package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// recorder stands for the kernel where only the decisions are tested.
type recorder struct {
	mu       sync.Mutex
	services map[dataplane.ServiceKey]dataplane.Service
	sets     int
	refuse   error
}

func (r *recorder) SetService(s dataplane.Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets++
	if r.refuse == nil {
		r.services[s.ServiceKey] = s
	}
	return r.refuse
}

func (r *recorder) RemoveService(key dataplane.ServiceKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.services, key)
	return nil
}

func (r *recorder) Services() (list []dataplane.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.services {
		list = append(list, s)
	}
	return list
}

// weights are those of the backends of the only service, -1 for one that is down.
func (r *recorder) weights() (list []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.services {
		for _, b := range s.Backends {
			if b.Down {
				list = append(list, -1)
			} else {
				list = append(list, int(b.Weight))
			}
		}
	}
	return list
}

// network refuses the connections to the dead.
type network struct {
	mu   sync.Mutex
	dead map[string]bool
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead[address] {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	there.Close()
	return here, nil
}

func (n *network) kill(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = make(map[string]bool)
	for _, address := range addresses {
		n.dead[address] = true
	}
}

// reconciling runs a test on a fake clock.
func reconciling(t *testing.T, k *recorder, text string, test func(r *reconciler, n *network)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		if k.services == nil {
			k.services = make(map[dataplane.ServiceKey]dataplane.Service)
		}
		r := newReconciler(k, builtinDefaults, slog.New(slog.DiscardHandler), health.Options{Dial: n.dial})
		r.want(apply(t, testRules(), Manifest{}, parse(t, text), false))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx) })
		r.settled(ctx)
		test(r, n)
		stop()
		running.Wait()
	})
}

const (
	one = "198.51.100.1:80"
	two = "198.51.100.2:8080"
)

// Health decides within the wish; when all are unhealthy all are used.
func TestEffectiveWeights(t *testing.T) {
	k := &recorder{}
	reconciling(t, k, web, func(r *reconciler, n *network) {
		for _, step := range []struct {
			dead []string
			want []int
		}{
			{nil, []int{100, 50}},
			{[]string{one}, []int{-1, 50}},
			{[]string{one, two}, []int{100, 50}},
			{[]string{two}, []int{100, -1}},
			{nil, []int{100, 50}},
		} {
			n.kill(step.dead...)
			time.Sleep(time.Second) // of the fake clock
			if got := k.weights(); !slices.Equal(got, step.want) {
				t.Errorf("with %v dead the weights are %v, want %v", step.dead, got, step.want)
			}
		}
	})
}

// A drained backend keeps its flows, one that is down by wish does not, whatever their health.
func TestWishes(t *testing.T) {
	k := &recorder{}
	text := `{services: [{address: "192.0.2.1:80", backends: [{address: 198.51.100.1, state: draining}, {address: 198.51.100.2, state: down}, {address: 198.51.100.3}]}]}`
	reconciling(t, k, text, func(r *reconciler, n *network) {
		if got := k.weights(); !slices.Equal(got, []int{0, -1, 100}) {
			t.Errorf("the weights are %v", got)
		}
		n.kill(one, "198.51.100.3:80")
		time.Sleep(time.Second)
		if got := k.weights(); !slices.Equal(got, []int{-1, -1, 100}) {
			t.Errorf("with all dead the weights are %v", got)
		}
	})
}

// A new daemon believes what the kernel says of a backend until its own probes say otherwise.
func TestAdoptedDown(t *testing.T) {
	key := dataplane.ServiceKey{Address: parse(t, web).Services[0].Address, Port: 80, Protocol: dataplane.ProtocolTCP}
	k := &recorder{services: map[dataplane.ServiceKey]dataplane.Service{key: {
		ServiceKey: key, Backends: []dataplane.Backend{{Address: parse(t, web).Services[0].Backends[0].Address, Port: 80, Down: true}},
	}}}
	reconciling(t, k, web, func(r *reconciler, n *network) {
		if got := k.weights(); !slices.Equal(got, []int{-1, 50}) {
			t.Errorf("at first the weights are %v", got)
		}
		time.Sleep(time.Second)
		if got := k.weights(); !slices.Equal(got, []int{100, 50}) {
			t.Errorf("after probes the weights are %v", got)
		}
	})
}

// What the kernel holds and nobody wants goes; what it lost comes back.
func TestFullComparison(t *testing.T) {
	stray := dataplane.ServiceKey{Address: parse(t, web).Services[0].Address, Port: 99, Protocol: dataplane.ProtocolUDP}
	k := &recorder{services: map[dataplane.ServiceKey]dataplane.Service{stray: {ServiceKey: stray}}}
	reconciling(t, k, web, func(r *reconciler, n *network) {
		if services := k.Services(); len(services) != 1 || services[0].ServiceKey == stray {
			t.Errorf("the kernel holds %+v", services)
		}
		k.mu.Lock()
		clear(k.services)
		k.mu.Unlock()
		time.Sleep(compareInterval + time.Second)
		if len(k.Services()) != 1 {
			t.Error("the lost service is not back")
		}
	})
}

// A refusal is told and tried again, ever less often.
func TestRefusedByKernel(t *testing.T) {
	k := &recorder{refuse: errors.New("no room")}
	reconciling(t, k, web, func(r *reconciler, n *network) {
		key := (&parse(t, web).Services[0]).Key()
		if err := r.failure(dataplane.ServiceKey{Address: key.Address, Port: 80, Protocol: dataplane.ProtocolTCP}); err == nil {
			t.Error("the refusal is not known")
		}
		time.Sleep(20 * time.Second)
		k.mu.Lock()
		if k.sets < 4 || k.sets > 10 {
			t.Errorf("it was tried %d times in 20 s", k.sets)
		}
		k.refuse = nil
		k.mu.Unlock()
		time.Sleep(compareInterval)
		if len(k.Services()) != 1 {
			t.Error("the service is not there")
		}
	})
}

// Very many backends are probed more seldom, and it is known by how much.
func TestProbeBudget(t *testing.T) {
	targets := make(map[target]health.Target)
	for n := range 65535 {
		targets[target{backend: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 80)}] = health.Target{Interval: 200 * time.Millisecond}
		if len(targets) == 400 && stretch(targets) != 1 {
			t.Errorf("2,000 probes a second are stretched by %d", stretch(targets))
		}
	}
	if got := stretch(targets); got != 256 {
		t.Errorf("327,675 probes a second are stretched by %d, want 256", got)
	}
}
