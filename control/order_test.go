package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// strictKernel is a recorder that has little room and takes its time.
type strictKernel struct {
	recorder
	room  int
	takes time.Duration
	set   []string // the services in the order they were set
	full  int      // how often there was no room
	keep  error    // why nothing can be removed
}

func (k *strictKernel) SetService(s dataplane.Service) error {
	time.Sleep(k.takes) // of the fake clock
	k.mu.Lock()
	_, present := k.services[s.ServiceKey]
	full := !present && len(k.services) >= k.room
	k.set = append(k.set, s.ServiceKey.String())
	if full {
		k.full++
	}
	k.mu.Unlock()
	if full {
		return errors.New("no room")
	}
	return k.recorder.SetService(s)
}

func (k *strictKernel) RemoveService(key dataplane.ServiceKey) error {
	k.mu.Lock()
	keep := k.keep
	k.mu.Unlock()
	if keep != nil {
		return keep
	}
	return k.recorder.RemoveService(key)
}

// ordering runs a test of a reconciler over k on a fake clock.
func ordering(t *testing.T, k *strictKernel, m Manifest, n *network, test func(r *reconciler)) {
	synctest.Test(t, func(t *testing.T) {
		k.services = make(map[dataplane.ServiceKey]dataplane.Service)
		ctx, stop := context.WithCancel(context.Background())
		r := newReconciler(k, DefaultConfig(), slog.New(slog.DiscardHandler), n.options())
		r.want(m)
		go r.run(ctx)
		r.settled(ctx)
		test(r)
		stop()
		<-r.stopped
		synctest.Wait()
	})
}

// manifest has services with the given last bytes of their addresses, each with two backends.
func manifest(t *testing.T, services ...int) Manifest {
	text := "services: []"
	if len(services) > 0 {
		text = "services:\n"
	}
	for _, n := range services {
		text += fmt.Sprintf("  - {address: \"192.0.2.%d:80\", backends: [{address: 198.51.100.%d}, {address: 203.0.113.%d}]}\n", n, n, n)
	}
	return apply(t, rules{defaults: builtinDefaults, limits: dataplane.DefaultLimits}, Manifest{}, parse(t, text), false)
}

// While a hundred services are being set, a verdict waits for one of them only.
func TestVerdictOvertakes(t *testing.T) {
	var all []int
	for n := 1; n <= 100; n++ {
		all = append(all, n)
	}
	m := manifest(t, all...)
	last := (&m.Services[len(m.Services)-1]).Key()
	n := &network{}
	n.kill(m.Services[len(m.Services)-1].Backends[0].place().String())
	k := &strictKernel{room: 1000, takes: 50 * time.Millisecond}
	ordering(t, k, m, n, func(r *reconciler) {
		// The first probe is within 200 ms, two more are 10 ms apart; meanwhile five services are set.
		if at := slices.Index(k.set, last.String()); at < 0 || at > 6 {
			t.Errorf("the service with the dead backend was set as number %d of %d", at, len(k.set))
		}
		if s := k.services[last]; !s.Backends[0].Down || s.Backends[1].Down {
			t.Errorf("it was set to %+v", s)
		}
	})
}

// What goes makes room for what comes, at the start and later.
func TestRemovalsComeFirst(t *testing.T) {
	k := &strictKernel{room: 2}
	ordering(t, k, manifest(t, 1, 2), &network{}, func(r *reconciler) {
		r.want(manifest(t, 3, 4))
		r.settled(context.Background())
		if k.full != 0 || len(k.services) != 2 {
			t.Errorf("there was no room %d times; the kernel holds %d services", k.full, len(k.services))
		}
		again := newReconciler(k, DefaultConfig(), slog.New(slog.DiscardHandler), (&network{}).options())
		again.want(manifest(t, 5, 6))
		ctx, stop := context.WithCancel(context.Background())
		go again.run(ctx)
		again.settled(ctx)
		stop()
		<-again.stopped
		if k.full != 0 || len(k.services) != 2 {
			t.Errorf("after a restart there was no room %d times; the kernel holds %d services", k.full, len(k.services))
		}
	})
}

// A service that the kernel does not let go is told until it is gone.
func TestRemains(t *testing.T) {
	k := &strictKernel{room: 2}
	ordering(t, k, manifest(t, 1), &network{}, func(r *reconciler) {
		k.keep = errors.New("it sticks")
		r.want(Manifest{})
		r.settled(context.Background())
		if got := r.remains(); !slices.Equal(got, []string{"192.0.2.1:80/tcp cannot be removed: it sticks"}) {
			t.Errorf("told %q", got)
		}
		k.mu.Lock()
		k.keep = nil
		k.mu.Unlock()
		time.Sleep(firstRetry + time.Millisecond)
		synctest.Wait()
		if got := r.remains(); len(got) != 0 || len(k.services) != 0 {
			t.Errorf("told %q; the kernel holds %d services", got, len(k.services))
		}
	})
}

// What the kernel said at the start counts once: a backend that was down by wish then and is wished up
// later is new, so it is up until probes say otherwise.
func TestAdoptedDownCountsOnce(t *testing.T) {
	key := (&apply(t, testRules(), Manifest{}, parse(t, web), false).Services[0]).Key()
	address := parse(t, web).Services[0].Backends[0].Address
	k := &recorder{services: map[dataplane.ServiceKey]dataplane.Service{key: {
		ServiceKey: key, Backends: []dataplane.Backend{{Address: address, Port: 80, Down: true}},
	}}}
	wish := func(state State) string {
		return strings.Replace(web, "address: 198.51.100.1", "address: 198.51.100.1, state: "+string(state), 1)
	}
	reconciling(t, k, wish(StateDown), func(r *reconciler, n *network) {
		r.want(apply(t, testRules(), Manifest{}, parse(t, wish(StateUp)), false))
		r.settled(context.Background())
		if got := k.weights(); !slices.Equal(got, []int{100, 50}) {
			t.Errorf("wished up again, the weights are %v", got)
		}
	})
}

// A call that waits for a reconciler that has ended returns.
func TestSettledAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		stop()
		r := newReconciler(&recorder{}, DefaultConfig(), slog.New(slog.DiscardHandler), health.Options[target]{})
		r.run(ctx)
		r.settled(context.Background())
	})
}
