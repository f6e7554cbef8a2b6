package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/probe"
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

func (*recorder) Packets() uint64 { return 0 }

func (*recorder) ProbeMark(dataplane.ServiceKey, netip.AddrPort) (uint32, error) { return 0, nil }

func (*recorder) ProbeSource(dataplane.ServiceKey, netip.AddrPort) (netip.Addr, error) {
	return netip.Addr{}, nil
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
				list = append(list, int(b.Weight)/weightScale)
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

// options have every probe go to the network.
func (n *network) options() health.Options[target] {
	return health.Options[target]{Prober: func(_ target, t health.Target) (health.Prober, error) {
		return road{n, t.Address.String()}, nil
	}}
}

// road is the way to one address of a network.
type road struct {
	network *network
	address string
}

// Probe fails when the address is dead.
func (r road) Probe(context.Context, *probe.Connect) error {
	r.network.mu.Lock()
	defer r.network.mu.Unlock()
	if r.network.dead[r.address] {
		return syscall.ECONNREFUSED
	}
	return nil
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
		r := newReconciler(k, DefaultConfig(), slog.New(slog.DiscardHandler), n.options())
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
	text := strings.Replace(web, "    backends:", "    health: {slow-start: off, damping: off}\n    backends:", 1)
	reconciling(t, k, text, func(r *reconciler, n *network) {
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
			time.Sleep(20 * time.Second) // of the fake clock: one that comes back is measured for a while
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
		if got := k.weights(); got[0] < 10 || got[1] != 50 {
			t.Errorf("once its probes succeed the weights are %v", got)
		}
		time.Sleep(20 * time.Second) // slow start
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

// Very many backends are probed more seldom, unless the traffic is large, and it is known by how much.
func TestProbeBudget(t *testing.T) {
	budget := newBudget(DefaultConfig().Probes)
	each := health.Target{Probe: probe.Spec{Kind: probe.TCP}}
	each.Interval = 200 * time.Millisecond
	budget.count(each, 400)
	budget.count(health.Target{Timing: health.Timing{Interval: time.Nanosecond}}, 1) // is not probed
	if budget.fit() || budget.factor != 1 || budget.exceeded() || budget.text() != "" {
		t.Errorf("2,000 probes a second are stretched by %d", budget.factor)
	}
	budget.count(each, 65135)
	if !budget.fit() || budget.factor != 256 {
		t.Errorf("327,675 probes a second are stretched by %d, want 256", budget.factor)
	}
	if text := budget.text(); !strings.Contains(text, "256 times more seldom") || !budget.exceeded() {
		t.Errorf("it says %q", text)
	}
	for wished, want := range map[time.Duration]time.Duration{200 * time.Millisecond: 51200 * time.Millisecond, time.Hour: longestInterval} {
		if got := budget.stretched(wished); got != want {
			t.Errorf("every %v becomes every %v, want %v", wished, got, want)
		}
	}
	now := time.Now()
	budget.observe(1000, now)
	budget.observe(1000+4e8, now.Add(time.Second)) // a thousandth of these packets are those of 40,000 probes
	if !budget.fit() || budget.factor != 16 {
		t.Errorf("with 400 million packets a second they are stretched by %d, want 16", budget.factor)
	}
}

// A backend that comes and goes where the budget is just spent restarts the probes of all once, not each time.
func TestProbeBudgetAtItsLimit(t *testing.T) {
	budget := newBudget(DefaultConfig().Probes)
	each := health.Target{Probe: probe.Spec{Kind: probe.TCP}}
	each.Interval = 200 * time.Millisecond
	budget.count(each, 400)
	changes := 0
	for range 10 {
		for _, n := range []int{1, -1} {
			budget.count(each, n)
			if budget.fit() {
				changes++
			}
		}
	}
	if changes != 1 || budget.factor != 2 {
		t.Errorf("it changed %d times, to %d", changes, budget.factor)
	}
	if budget.count(each, -100); !budget.fit() || budget.factor != 1 {
		t.Errorf("1,500 probes a second are stretched by %d", budget.factor)
	}
}

// A change of one service has nothing to do with the others: neither their tables are set nor their probes begun anew, and
// what is wanted of them stays as it is.
func TestChangeOfOneService(t *testing.T) {
	const two = web + `  - name: other
    address: 192.0.2.2:80
    backends: [{address: 198.51.100.3}, {address: 198.51.100.4, state: down}]
`
	synctest.Test(t, func(t *testing.T) {
		k := &recorder{services: make(map[dataplane.ServiceKey]dataplane.Service)}
		var watched []string
		options := health.Options[target]{Prober: func(of target, t health.Target) (health.Prober, error) {
			watched = append(watched, of.backend.String())
			return road{&network{}, t.Address.String()}, nil
		}}
		r := newReconciler(k, DefaultConfig(), slog.New(slog.DiscardHandler), options)
		m := apply(t, testRules(), Manifest{}, parse(t, two), false)
		r.want(m)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx) })
		r.settled(ctx)
		other := r.wanted[m.Services[1].Key()]
		sets := k.sets
		watched = nil

		next := Manifest{Services: slices.Clone(m.Services)}
		if _, err := testRules().addBackend(&next, "web", Backend{Address: netip.MustParseAddr("198.51.100.9")}); err != nil {
			t.Fatal(err)
		}
		r.want(next)
		r.settled(ctx)
		if !slices.Equal(watched, []string{"198.51.100.9:80"}) || k.sets != sets+1 {
			t.Errorf("%v are watched anew, %d tables set", watched, k.sets-sets)
		}
		if r.wanted[other.Key()] != other {
			t.Error("the other service is another one")
		}
		r.want(Manifest{Services: next.Services[:1]})
		r.settled(ctx)
		if v, _ := r.monitor.Look(target{other.Key(), other.Backends[0].place()}); !v.Since.IsZero() {
			t.Error("a backend of the other service is watched though that is gone")
		}
		if len(r.wanted) != 1 || len(r.groups) != 1 || len(k.Services()) != 1 || r.budget.wanted() != 30 {
			t.Errorf("without the other: %d are wanted, %d in the kernel, %v probes a second", len(r.wanted), len(k.Services()), r.budget.wanted())
		}
		stop()
		running.Wait()
	})
}

// What nobody waits for comes last, and each service once.
func TestQueue(t *testing.T) {
	key := func(n int) dataplane.ServiceKey { return dataplane.ServiceKey{Port: uint16(n)} }
	var q queue
	for n := range 4 {
		q.pushLast(key(n))
	}
	q.push(key(5))
	q.push(key(2))
	q.pushLast(key(5))
	q.pushFirst(key(3))
	q.push(key(3))
	var order []int
	urgent := 0
	for {
		if q.urgent() {
			urgent++
		}
		next, ok := q.pop()
		if !ok {
			break
		}
		order = append(order, int(next.Port))
	}
	if !slices.Equal(order, []int{3, 5, 2, 0, 1}) || urgent != 3 {
		t.Errorf("the order is %v, %d of them urgent", order, urgent)
	}
	if q.push(key(1)); !q.urgent() {
		t.Error("what was taken out cannot wait again")
	}
}
