package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health"
)

// Shares of small weights are not rounded away, and the largest weight fits.
func TestWeightsInTheKernel(t *testing.T) {
	for _, test := range []struct {
		weight   int
		decision health.Decision
		panicked bool
		want     uint16
		down     bool
	}{
		{1, health.Decision{State: StateUp, Factor: 1}, false, 64, false},
		{1, health.Decision{State: StateUp, Factor: 0.5}, false, 32, false},
		{1, health.Decision{State: StateUp, Factor: 0.05}, false, 3, false},
		{MaxWeight, health.Decision{State: StateUp, Factor: 1}, false, 64000, false},
		{0, health.Decision{State: StateUp, Factor: 1}, false, 0, false},
		{100, health.Decision{State: StateDraining}, false, 0, false},
		{100, health.Decision{State: StateStandby}, false, 0, false},
		{100, health.Decision{State: StateDown}, false, 0, true},
		{100, health.Decision{State: StateDown, Factor: 1}, true, 6400, false},
		{100, health.Decision{State: StateDown}, true, 0, false}, // it declines flows even so
	} {
		b := Backend{Weight: &test.weight, State: StateUp}
		if got := b.effective(test.decision, test.panicked); got.Weight != test.want || got.Down != test.down {
			t.Errorf("%+v: weight %d, down %t", test, got.Weight, got.Down)
		}
	}
	b := Backend{Weight: new(100), State: StateDown}
	if got := b.effective(health.Decision{State: StateDown}, true); !got.Down || got.Weight != 0 {
		t.Errorf("panic brings back what is down by wish: %+v", got)
	}
}

const sets = `{services: [{name: web, address: "192.0.2.1:80", health: {slow-start: off, damping: off}, sources: [{prefix: 10.0.0.0/8, set: canary}],
  backends: [{address: 198.51.100.1}, {address: 198.51.100.2}, {address: 198.51.100.3, set: canary}]}]}`

// Each set of backends is judged for itself: that one of them panics does not concern the other.
func TestSetsAreJudgedApart(t *testing.T) {
	k := &recorder{}
	reconciling(t, k, sets, func(r *reconciler, n *network) {
		state := func() ServiceState {
			s := r.wanted[k.Services()[0].ServiceKey]
			return r.evaluate(s).serviceState(s, nil, false)
		}
		if got := state(); got != ServiceOK {
			t.Errorf("the service is %s", got)
		}
		for _, step := range []struct {
			dead  []string
			want  []int
			state ServiceState
		}{
			{[]string{one}, []int{-1, 100, 100}, ServiceDegraded},
			{[]string{one, "198.51.100.3:80"}, []int{-1, 100, 100}, ServicePanic},
			{nil, []int{100, 100, 100}, ServiceOK},
		} {
			n.kill(step.dead...)
			time.Sleep(20 * time.Second)
			if got := k.weights(); !slices.Equal(got, step.want) || state() != step.state {
				t.Errorf("with %v dead the weights are %v and the service %s", step.dead, got, state())
			}
		}
		events, _ := r.journal.after(0, false)
		var panics []string
		for _, e := range events {
			if e.Kind == EventPanic {
				panics = append(panics, e.String())
			}
		}
		if want := []string{"web panic off -> on: set canary: too few backends are up, so all are used", "web panic on -> off: set canary"}; !slices.Equal(panics, want) {
			t.Errorf("the events of panic are %q", panics)
		}
	})
}

// A change of state is told once, with its cause: by health or by wish, but not what is new.
func TestEventsOfStates(t *testing.T) {
	k := &recorder{}
	reconciling(t, k, strings.Replace(web, "    backends:", "    health: {slow-start: off, damping: off}\n    backends:", 1), func(r *reconciler, n *network) {
		n.kill(one)
		time.Sleep(5 * time.Second)
		n.kill()
		time.Sleep(20 * time.Second)
		r.want(apply(t, testRules(), Manifest{}, parse(t, strings.Replace(web, "name: one,", "name: one, state: draining,", 1)+"      - {name: three, address: 198.51.100.3}\n"), false))
		time.Sleep(20 * time.Second)
		events, _ := r.journal.after(0, false)
		var states []string
		for _, e := range events {
			if e.Kind == EventState {
				states = append(states, e.String())
			}
		}
		want := []string{
			"web/one up -> down: 3 of 3 probes failed within 10ms: connection refused",
			"web/one down -> up: 2 of 2 probes succeeded",
			"web/one up -> draining: as wished",
		}
		if !slices.Equal(states, want) {
			t.Errorf("got  %q\nwant %q", states, want)
		}
	})
}
