package day

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// What a backend does: so many requests at a time, each takes an exponentially distributed time.
const (
	workers = 4
	takes   = 50 * time.Millisecond // on average
	boots   = time.Second
)

// The policy.
const (
	fewest, most = 2, 12
	objective    = 150 * time.Millisecond
	readyWithin  = 15 * time.Second
	drain        = 4 * time.Second
	cooldown     = 2 * time.Second
	warmUp       = time.Second // of a new backend
)

// labPrefix begins the names of what the demo makes outside its namespaces.
const labPrefix = "sluice-day"

// Traces returns patterns for the files that a running demo with the process number has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }

// site is all that is built up.
type site struct {
	*stage.Stage
	executable string
	network    *stage.Network

	mu      sync.Mutex
	servers map[string]*lab.Process // by the backend's name
	answers map[string]answer       // by the order's key
}

// newSite makes the hosts.
func newSite(executable string) (_ *site, err error) {
	s := &site{executable: executable, servers: make(map[string]*lab.Process), answers: make(map[string]answer)}
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	s.Config = "scale: {exec: true}\nforecast: {services: 0, share: 100%}\n"
	if s.network, err = s.Network(fewest); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// serve starts the process of a backend, which answers after a while.
func (s *site) serve(ctx context.Context, b stage.Backend, boots time.Duration) error {
	process, err := b.Command(ctx, s.executable, ServerCommand, b.Name(), boots.String())
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.servers[b.Name()] = process
	}
	return err
}

func (s *site) services() []control.Service {
	web := control.Service{
		Name: stage.ServiceName, Address: netip.MustParseAddr(stage.ServiceAddress), Port: 80,
		Probe:  &control.Probe{Spec: probe.Spec{Kind: probe.TCP}},
		Health: control.Health{SlowStart: control.Pause(warmUp)},
		Scaling: control.Scaling{
			Executor: "exec", Command: fmt.Sprintf("%s %s %s", s.executable, ProvisionCommand, s.socket()),
			ServiceRate: workers / takes.Seconds(), Workers: workers, Objective: control.Duration(objective), Boot: control.Duration(boots + warmUp),
			Min: fewest, Max: most, CooldownDown: control.Pause(cooldown), Drain: control.Pause(drain),
		},
	}
	for _, b := range s.network.Backends {
		web.Backends = append(web.Backends, control.Backend{Name: b.Name(), Address: netip.MustParseAddr(b.Address)})
	}
	return []control.Service{web}
}

func (s *site) socket() string { return filepath.Join(s.Folder, "provision.sock") }

// history is the past until the calendar begins, as CSV. The new flows of a minute are those of a minute of the calendar.
func history() io.Reader {
	random := rand.New(rand.NewPCG(1, 1))
	var text bytes.Buffer
	fmt.Fprintln(&text, "timestamp,new-flows")
	for at := midnight.Add(begins - past); at.Before(midnight.Add(begins)); at = at.Add(time.Minute) {
		mean := rate(at.Sub(at.Truncate(24*time.Hour))) * 60 / speed * (1 + varies*random.NormFloat64())
		fmt.Fprintf(&text, "%s,%d\n", at.Format(time.RFC3339), poisson(random, mean))
	}
	return &text
}

// poisson draws a number with a mean (Knuth, The Art of Computer Programming, volume 2, section 3.4.1, algorithm Q).
func poisson(random *rand.Rand, mean float64) int {
	n := -1
	for sum := 0.0; sum < mean; n++ {
		sum += random.ExpFloat64()
	}
	return max(n, 0)
}
