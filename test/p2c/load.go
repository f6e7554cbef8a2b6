package p2c

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

// requestTimeout is more than any request takes unless a queue only grows. One that fails counts as so long.
const requestTimeout = 10 * time.Second

// Every request of a round has a port of its own from these, in turn: the kernel would choose at random and use some
// again, whose flows would be remembered in one place.
const firstPort, ports = 1024, 65536 - 1024

// arrivals returns when requests are due, in order: a Poisson process of a rate, in 1/s, up to a duration.
func arrivals(rate float64, duration time.Duration, random *rand.Rand) []time.Duration {
	var due []time.Duration
	for at := 0.0; ; {
		at += random.ExpFloat64() / rate
		if at >= duration.Seconds() {
			return due
		}
		due = append(due, time.Duration(at*float64(time.Second)))
	}
}

// request is one that was made, over a connection of its own.
type request struct {
	late    time.Duration // from when it was due until it began
	took    time.Duration // from when it was due until its answer was complete
	backend string
	err     error
}

// sendAll makes requests from a host when they are due, counted from now, whatever became of those before, and waits
// for all answers. Ports begin with the one that has a number below ports.
func sendAll(ctx context.Context, from *lab.Host, number int, due []time.Duration) ([]request, error) {
	requests := make([]request, len(due))
	var pending sync.WaitGroup
	pace, err := newAlarm()
	if err != nil {
		return nil, err
	}
	defer pace.Close()
	defer context.AfterFunc(ctx, func() { pace.Close() })()
	to, start := netip.MustParseAddrPort(stage.Target), time.Now()
	err = from.Do(func() error { // one thread for all sockets
		for i, after := range due {
			at := start.Add(after)
			if err := pace.sleep(time.Until(at)); err != nil {
				return err
			}
			r := &requests[i]
			r.late = time.Since(at)
			conn, err := traffic.Begin(uint16(firstPort+(number+i)%ports), to)
			if conn == nil {
				return fmt.Errorf("making the socket of a request (a lower --rate needs fewer at a time): %w", err)
			}
			pending.Go(func() {
				if r.err = err; err == nil {
					r.backend, r.err = traffic.AskOnce(conn, at.Add(requestTimeout))
				}
				conn.Close()
				r.took = time.Since(at)
			})
		}
		return nil
	})
	pending.Wait()
	return requests, err
}
