package failover

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

const (
	connectEvery   = 2 * time.Millisecond
	connectTimeout = time.Second
	// maxInFlight is more than can wait when every backend is silent.
	maxInFlight = 2 * int(connectTimeout/connectEvery)
)

// attempt is one new connection with a request and its answer.
type attempt struct {
	start, end time.Time
	err        error
}

// load opens a new connection every connectEvery, whatever became of the earlier ones. Its methods are safe for
// concurrent use.
type load struct {
	cancel  context.CancelFunc
	done    chan struct{}
	pending sync.WaitGroup
	slots   chan struct{} // as many as are in flight

	mu       sync.Mutex
	attempts []attempt // since the last forget
	failure  error     // of making a socket at all
}

// startLoad starts it from a host.
func startLoad(ctx context.Context, from *lab.Host) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, done: make(chan struct{}), slots: make(chan struct{}, maxInFlight)}
	go func() {
		defer close(l.done)
		err := from.Do(func() error { return l.run(ctx) })
		l.pending.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failure = err
	}()
	return l
}

// stop waits for the answers.
func (l *load) stop() error {
	l.cancel()
	<-l.done
	return l.failure
}

// run makes sockets on the thread that it is on, which is in the namespace, so that no other thread has to enter it.
func (l *load) run(ctx context.Context) error {
	to := netip.MustParseAddrPort(target)
	for next := time.Now(); ctx.Err() == nil; next = next.Add(connectEvery) {
		time.Sleep(time.Until(next))
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		start := time.Now()
		conn, err := traffic.Begin(0, to)
		if conn == nil {
			return err
		}
		l.pending.Go(func() {
			if err == nil {
				_, err = traffic.AskOnce(conn, start.Add(connectTimeout))
			}
			conn.Close()
			l.add(attempt{start, time.Now(), err})
			<-l.slots
		})
	}
	return nil
}

func (l *load) add(a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts = append(l.attempts, a)
}

// forget begins a new record.
func (l *load) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts = l.attempts[:0]
}

// failures returns what failed and was under way at a time, or began later but before the end.
func (l *load) failures(from, until time.Time) []attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed []attempt
	for _, a := range l.attempts {
		if a.err != nil && !a.end.Before(from) && a.start.Before(until) {
			failed = append(failed, a)
		}
	}
	return failed
}
