package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

var (
	stayLength = flag.Duration("stay", 20*time.Second, "how long TestConnectionsStay changes backends, each mode")
	staySeed   = flag.Uint64("seed", 1, "what TestConnectionsStay does")
)

const (
	crowdBackends = 12
	faithful      = 4    // of them are never wished down nor removed: their connections live to the end
	residents     = 2000 // clients that keep a connection as long as it lives
	visitors      = 100  // clients that open another one every few seconds
	crowdService  = "tcp-7"
)

// The invariant of tracking, with real connections that check every echo: whatever is changed of the backends, and
// while the daemon is killed and started again, none breaks but those whose backend was wished down or removed since
// they were opened.
func TestConnectionsStay(t *testing.T) {
	for _, w := range []way{ways[2], ways[7]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newNetwork(t, lab.LinkOptions{MTU: 1600}, crowdBackends)
			s.startDaemon(t)
			s.serve(t, w)
			c := newCrowd(t, s, w)
			c.openAll(t)
			c.changeAll(t)
			c.end(t)
		})
	}
}

// crowd is many clients of a service whose backends change.
type crowd struct {
	*site
	way     way
	random  *rand.Rand
	wishes  map[string]control.State // of the backends that are there
	changes map[string]int           // that were made, by kind

	leaving context.Context // is done when clients shall close their connections: at the end, or when one has failed
	leave   context.CancelFunc
	opening chan struct{} // limits how many connections are opened at the same time
	opened  sync.WaitGroup
	clients sync.WaitGroup

	mu       sync.Mutex
	ruptures map[string]int // how often changes that break a backend's connections have begun and ended, together
	counts   map[string]int // connections
	failures []error        // of connections that should live
}

func newCrowd(t *testing.T, s *site, w way) *crowd {
	c := &crowd{
		site: s, way: w, random: rand.New(rand.NewPCG(*staySeed, 0)),
		wishes: make(map[string]control.State), changes: make(map[string]int), opening: make(chan struct{}, 32),
		ruptures: make(map[string]int), counts: make(map[string]int),
	}
	c.leaving, c.leave = context.WithCancel(t.Context())
	numbers := make([]int, crowdBackends)
	for n := range numbers {
		name := c.backends[n].Name()
		numbers[n], c.wishes[name], c.ruptures[name] = n, control.StateUp, 0
	}
	c.apply(t, w.services(control.ProbeNone, numbers...))
	return c
}

// openAll has every client open its first connection.
func (c *crowd) openAll(t *testing.T) {
	for n := range residents + visitors {
		c.opened.Add(1)
		c.clients.Go(func() {
			opened := sync.OnceFunc(c.opened.Done)
			defer opened()
			random := rand.New(rand.NewPCG(*staySeed, uint64(1+n)))
			for first := true; c.leaving.Err() == nil; first = false {
				stay := *stayLength + time.Hour
				if n >= residents {
					stay = time.Duration(random.Int64N(int64(5 * time.Second)))
				}
				if err := c.connect(t.Context(), stay, first, opened); err != nil {
					c.fail(err)
				}
			}
		})
	}
	c.opened.Wait()
}

// connect opens a connection and keeps it for some time. Its error is nil when the connection breaks with its backend.
func (c *crowd) connect(ctx context.Context, stay time.Duration, first bool, opened func()) error {
	before := c.look()
	c.opening <- struct{}{}
	flow, err := traffic.OpenFlow(ctx, c.client, "tcp", c.way.target(portTCP), 2*time.Second)
	<-c.opening
	if err != nil {
		for name, since := range before {
			if c.mayHaveBroken(name, since) { // it may have been opened there
				c.count("not opened")
				return nil
			}
		}
		return fmt.Errorf("a connection could not be opened: %w", err)
	}
	opened()
	select {
	case <-flow.Done():
	case <-time.After(stay):
	case <-c.leaving.Done():
	}
	switch err := flow.Close(); {
	case err == nil && first && c.leaving.Err() != nil:
		c.count("open from the beginning to the end")
	case err == nil:
		c.count("closed")
	case !c.mayHaveBroken(flow.Backend(), before[flow.Backend()]):
		return fmt.Errorf("a connection to %s broke after %d echoes: %w", flow.Backend(), flow.Echoes(), err)
	default:
		c.count("broken with their backend")
	}
	return nil
}

// look returns ruptures as they are now.
func (c *crowd) look() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.ruptures)
}

// mayHaveBroken tells whether a connection to a backend may have broken that was opened later than a look at its
// ruptures: one was under way then, or has begun.
func (c *crowd) mayHaveBroken(backend string, looked int) bool {
	return looked%2 != 0 || c.look()[backend] != looked
}

// rupture makes a change that breaks the connections to a backend, at some time until it returns.
func (c *crowd) rupture(backend string, change func() error) error {
	note := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ruptures[backend]++
	}
	note()
	defer note()
	return change()
}

func (c *crowd) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, err)
	c.leave()
}

// changeAll makes one change after the other, and kills the daemon after each third of the time.
func (c *crowd) changeAll(t *testing.T) {
	begin := time.Now()
	for kills := time.Duration(1); time.Since(begin) < *stayLength; {
		if time.Since(begin) > kills**stayLength/3 {
			kills++
			c.daemon.Kill()
			<-c.daemon.Done()
			_ = stage.Sleep(c.leaving, 300*time.Millisecond) // traffic without it
			c.startDaemon(t)
			c.changes["killed"]++
		}
		must(t, c.change(t.Context()))
		if stage.Sleep(c.leaving, time.Duration(c.random.Int64N(int64(400*time.Millisecond)))) != nil {
			return
		}
	}
}

// change adds, changes or removes one backend, and leaves enough that take new connections.
func (c *crowd) change(ctx context.Context) error {
	n := c.random.IntN(crowdBackends)
	name, up := c.backends[n].Name(), 0
	for _, state := range c.wishes {
		if state == control.StateUp {
			up++
		}
	}
	was, there := c.wishes[name]
	breaks := n >= faithful && c.random.IntN(4) == 0
	switch {
	case !there:
		c.changes["added"]++
		c.wishes[name] = control.StateUp
		_, err := c.api.AddBackend(ctx, crowdService, control.Backend{Name: name, Address: c.way.backendAddress(n)})
		return err
	case was == control.StateUp && up <= faithful, was == control.StateUp && !breaks && c.random.IntN(2) == 0:
		c.changes["weighted"]++
		return c.patch(ctx, name, control.BackendPatch{Weight: new(1 + c.random.IntN(200))})
	case breaks && c.random.IntN(2) == 0:
		c.changes["removed"]++
		delete(c.wishes, name)
		return c.rupture(name, func() error { return c.api.RemoveBackend(ctx, crowdService, name) })
	case breaks && was != control.StateDown:
		return c.rupture(name, func() error { return c.wish(ctx, name, control.StateDown) })
	case was == control.StateUp:
		return c.wish(ctx, name, control.StateDraining)
	}
	return c.wish(ctx, name, control.StateUp)
}

func (c *crowd) wish(ctx context.Context, name string, state control.State) error {
	c.changes[string(state)]++
	c.wishes[name] = state
	return c.patch(ctx, name, control.BackendPatch{State: &state})
}

func (c *crowd) patch(ctx context.Context, name string, patch control.BackendPatch) error {
	_, err := c.api.UpdateBackend(ctx, crowdService, name, patch)
	return err
}

// end has all clients close their connections, and says what became of them.
func (c *crowd) end(t *testing.T) {
	c.leave()
	c.clients.Wait()
	if n := len(c.failures); n > 0 {
		t.Errorf("seed %d, with the backends %v: %d connections failed, the first ones: %v", *staySeed, c.wishes, n, errors.Join(c.failures[:min(n, 5)]...))
	}
	t.Logf("seed %d, %v: changes %v, connections %v, %+v", *staySeed, *stayLength, c.changes, c.counts, c.service(t, crowdService).Flows)
	if c.counts["open from the beginning to the end"] < residents/10 || c.counts["broken with their backend"] == 0 || c.changes["killed"] == 0 {
		t.Error("too little happened to show something")
	}
}
