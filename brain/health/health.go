// Package health watches servers by connecting to them and says which are up. It decides nothing
// about what a verdict is good for.
package health

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// confirmation is the delay from a first miss to the probe that confirms it.
const confirmation = 10 * time.Millisecond

// Target is a server to be probed and how.
type Target struct {
	Address  netip.AddrPort
	Interval time.Duration // from the beginning of a probe to that of the next, > 0
	Timeout  time.Duration // > 0
	Rise     int           // successes in a row that make it up, >= 1
	Fall     int           // failures in a row that make it down, >= 1
	Down     bool          // a new target is down until it rises; otherwise it is up until it falls
}

// Options change how a Prober works; the zero value probes with TCP connections.
type Options struct {
	// Dial opens a connection, as (*net.Dialer).DialContext does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Prober probes targets, each on a goroutine of its own. K names a target.
// It is safe for concurrent use.
type Prober[K comparable] struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	changed func(K)
	wg      sync.WaitGroup

	mu      sync.Mutex
	watches map[K]*watch
}

// watch is one target being probed. Prober.mu guards history.
type watch struct {
	target  Target
	history history
	stop    context.CancelFunc
}

// New returns a Prober without targets. It calls changed after the verdict on a target has changed, from
// any goroutine, possibly several at once and possibly late: Verdict says what holds. changed must return
// quickly, because it delays the next probe of that target.
func New[K comparable](options Options, changed func(K)) *Prober[K] {
	if options.Dial == nil {
		dialer := net.Dialer{KeepAlive: -1}
		options.Dial = dialer.DialContext
	}
	return &Prober[K]{dial: options.Dial, changed: changed, watches: map[K]*watch{}}
}

// Set replaces the targets. One that was there before keeps its verdict, also when it is probed
// differently from now on; an unchanged one does not notice.
func (p *Prober[K]) Set(targets map[K]Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.watches {
		if _, stays := targets[key]; !stays {
			w.stop()
			delete(p.watches, key)
		}
	}
	for key, target := range targets {
		verdict := Verdict{Up: !target.Down, Since: time.Now()}
		if w, present := p.watches[key]; present {
			target.Down = w.target.Down // only counts for new targets
			if target == w.target {
				continue
			}
			w.stop()
			verdict = w.history.verdict
		}
		p.start(key, target, verdict)
	}
}

func (p *Prober[K]) start(key K, target Target, verdict Verdict) {
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{target: target, history: history{verdict: verdict, rise: target.Rise, fall: target.Fall}, stop: stop}
	p.watches[key] = w
	p.wg.Go(func() { p.run(ctx, key, w) })
}

// Verdict returns what is known of a target. Without such a target it is up since the zero time.
func (p *Prober[K]) Verdict(key K) Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, present := p.watches[key]; present {
		return w.history.verdict
	}
	return Verdict{Up: true}
}

// Close removes every target and returns when nothing is probed any more.
func (p *Prober[K]) Close() {
	p.Set(nil)
	p.wg.Wait()
}

// run probes one target. It begins at a random moment, so that many targets spread over the interval.
func (p *Prober[K]) run(ctx context.Context, key K, w *watch) {
	wait := time.NewTimer(rand.N(w.target.Interval))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		started := time.Now()
		err := p.probe(ctx, w.target)
		if ctx.Err() != nil {
			return
		}
		next := w.target.Interval - time.Since(started)
		if !inconclusive(err) && p.observe(key, w, err) {
			next = min(next, confirmation)
		}
		wait.Reset(max(next, 0))
	}
}

// probe connects and hangs up at once, with a reset, so that no connection stays in TIME_WAIT.
func (p *Prober[K]) probe(ctx context.Context, target Target) error {
	ctx, cancel := context.WithTimeout(ctx, target.Timeout)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", target.Address.String())
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
	return nil
}

// observe takes the result of a probe and says whether it wants confirmation.
func (p *Prober[K]) observe(key K, w *watch, err error) (confirm bool) {
	p.mu.Lock()
	if p.watches[key] != w {
		p.mu.Unlock()
		return false
	}
	changed := w.history.observe(reason(err, w.target.Timeout), time.Now())
	confirm = w.history.doubtful()
	p.mu.Unlock()
	if changed {
		p.changed(key)
	}
	return confirm
}
