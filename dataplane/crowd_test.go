package dataplane

import (
	"flag"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

var crowdSize = flag.Int("flows", 100_000, "how many connections TestOneChangeAmongMany and TestChangesUnderCrowd keep open")

// crowd is a service with 100 backends and many clients with a connection each, and what they know of it: which
// backend answered their SYN.
type crowd struct {
	*testHost
	*sender
	random  *rand.Rand
	service Service
	open    []client
}

// client is known by its place in the crowd.
type client struct {
	port uint16 // another one for each of its connections
	connection
}

// newCrowd has all clients open their connection.
func newCrowd(t *testing.T, tracking Tracking) *crowd {
	options := testOptions(t)
	options.Limits.Flows = uint32(3 * *crowdSize) // an LRU map forgets some before it is full
	h := newTestHost(t, options)
	c := &crowd{
		testHost: h, sender: newSender(t, h), random: rand.New(rand.NewPCG(1, 7)),
		service: justEnough(servers(numbers(2, 102), 100)...), open: make([]client, *crowdSize),
	}
	c.service.Tracking = tracking
	c.apply(t)
	for i := range c.open {
		c.connect(t, i)
	}
	return c
}

// apply tells the dataplane what the backends are by now.
func (c *crowd) apply(t *testing.T) {
	c.set(t, c.service)
	var serves [256]bool
	for _, b := range c.service.Backends {
		serves[b.Address.As4()[3]] = !b.Down
	}
	for i := range c.open {
		c.open[i].lost = c.open[i].lost || !serves[c.open[i].backend]
	}
}

// connect has a client open a connection.
func (c *crowd) connect(t *testing.T, i int) {
	port := c.open[i].port + 1
	c.open[i] = client{port, connection{backend: c.send(t, i, port, flagsSYN)}}
	c.use(t, i, flagsACK)
}

// use sends a packet of a connection, which must come where it was opened.
func (c *crowd) use(t *testing.T, i int, flags byte) {
	was := c.open[i]
	if n := c.send(t, i, was.port, flags); n != was.backend && !was.lost {
		t.Fatalf("the connection of client %d moved from backend %d to %d, with %+v", i, was.backend, n, c.service.Backends)
	}
}

// talk has one of so many clients close its connection and open another, as those do whose connection is lost, or use
// it.
func (c *crowd) talk(t *testing.T, oneOf int) {
	for i := range c.open {
		switch {
		case c.random.IntN(oneOf) != 0:
		case c.open[i].lost, c.random.IntN(3) == 0:
			c.use(t, i, flagsFIN)
			c.connect(t, i)
		default:
			c.use(t, i, flagsACK)
		}
	}
}

// close has all clients close their connections, and time pass until nothing of them may be left.
func (c *crowd) close(t *testing.T) {
	for i := range c.open {
		c.use(t, i, flagsFIN)
	}
	c.wantAllOver(t, c.service)
}

// remembered counts the flows that are remembered, and the open connections among them.
func (c *crowd) remembered(t *testing.T) (all, open int) {
	must(t, eachBatch(c.objects.Flows4, func(keys []balancerTuple4, _ []balancerFlow4) error {
		all += len(keys)
		for _, key := range keys {
			if i := bits.ReverseBytes32(key.Source) & 0xffffff; c.open[i].port == bits.ReverseBytes16(key.Ports.Source) {
				open++
			}
		}
		return nil
	}))
	return all, open
}

// After one change among 100 backends no connection moves, at most a tenth as many flows are remembered as connections
// are open, and the tables are stable again when those have ended. With tracking full all are remembered.
func TestOneChangeAmongMany(t *testing.T) {
	drain := func(s *Service) { s.Backends[50].Weight = 0 }
	for name, test := range map[string]struct {
		tracking Tracking
		change   func(*Service)
	}{
		"added":         {TrackingJustEnough, func(s *Service) { s.Backends = append(s.Backends, servers([]int{102}, 100)...) }},
		"weighted":      {TrackingJustEnough, func(s *Service) { s.Backends[50].Weight = 200 }},
		"failed":        {TrackingJustEnough, func(s *Service) { s.Backends[50].Down = true }},
		"drained":       {TrackingJustEnough, drain},
		"drained, full": {TrackingFull, drain},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, test.tracking)
			before, _ := c.remembered(t)
			test.change(&c.service)
			c.apply(t)
			c.talk(t, 1)
			all, open := c.remembered(t)
			t.Logf("%d connections: %d flows were remembered, then %d, of %.2f %% of the connections", len(c.open), before, all, share(open, c.open))
			switch {
			case test.tracking == TrackingFull && (before < len(c.open) || open < len(c.open)):
				t.Errorf("only %d flows were remembered, and %d open ones after the change, want all", before, open)
			case test.tracking == TrackingJustEnough && (before > 0 || all == 0 || all > len(c.open)/10):
				t.Errorf("%d flows were remembered, want none, and %d after the change, want at most a tenth of the connections", before, all)
			}
			c.close(t)
		})
	}
}

// share is how much of the connections a number of them is, in percent.
func share(number int, of []client) float64 { return 100 * float64(number) / float64(len(of)) }

// No connection moves, whatever happens to the backends. One by one, their table keeps its size; many at once, one of
// another size takes over.
func TestChangesUnderCrowd(t *testing.T) {
	for name, test := range map[string]struct{ least, atOnce, sizes int }{
		"one by one":   {least: 90, atOnce: 1, sizes: 1},
		"many at once": {least: 60, atOnce: 20, sizes: 2},
	} {
		t.Run(name, func(t *testing.T) {
			c, sizes := newCrowd(t, TrackingJustEnough), make(map[int]bool)
			for round := range 30 {
				for range test.atOnce {
					c.change(test.least)
				}
				c.apply(t)
				c.talk(t, 20)
				sizes[c.slotsOf(c.service.ServiceKey)] = true
				if round%15 == 14 {
					c.talk(t, 1)
					c.later(t, ticksOf(defaultIdle)*6/10)
					must(t, c.sweep(false))
				}
			}
			c.talk(t, 1)
			all, open := c.remembered(t)
			t.Logf("%d connections to %d backends: %d flows are remembered, of %.2f %% of the connections",
				len(c.open), len(c.service.Backends), all, share(open, c.open))
			if len(sizes) != test.sizes {
				t.Errorf("the tables had the sizes %v, want %d", sizes, test.sizes)
			}
			c.close(t)
		})
	}
}

// change adds a backend, or changes one that is there, or removes it if enough are left.
func (c *crowd) change(least int) {
	one := servers([]int{2 + c.random.IntN(118)}, 100)[0]
	there := &c.service.Backends
	i := slices.IndexFunc(*there, func(b Backend) bool { return b.Address == one.Address })
	switch {
	case i < 0:
		*there = append(*there, one)
	case c.random.IntN(2) == 0 && len(*there) > least:
		*there = slices.Delete(*there, i, i+1)
	case (*there)[i].Down || (*there)[i].Weight == 0:
		(*there)[i] = one
	default:
		one.Weight, one.Down = []uint16{0, 1, 50, 200}[c.random.IntN(4)], c.random.IntN(4) == 0
		(*there)[i] = one
	}
}
