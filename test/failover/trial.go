package failover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

const (
	// detectWithin is how long a fault may go unnoticed before it counts as not detected.
	detectWithin = 5 * time.Second
	// A fault happens at a random moment, so that it meets probes in any phase.
	leastQuiet, mostQuiet = 500 * time.Millisecond, time.Second
	quietTries            = 5
	// judgedAfter is when new connections that began before have succeeded or failed. So long a fault goes on after it
	// was detected, and nothing may fail before the next.
	judgedAfter = connectTimeout + 200*time.Millisecond
)

// trial is what one fault did.
type trial struct {
	detected  bool
	detect    time.Duration // from the fault until the backend lost half of its part or more
	gap       time.Duration // from the fault to the beginning of the last new connection that failed, 0 for none
	failed    int           // new connections
	cause     error         // why the last of them did
	disturbed int           // long-lived connections of other backends
}

// bench is the traffic on a site, and the trials made under it.
type bench struct {
	site  *site
	load  *load
	flows flows
}

// startTraffic starts both kinds of traffic.
func startTraffic(ctx context.Context, s *site) (*bench, error) {
	b := &bench{site: s, flows: flows{from: s.network.Client}}
	if err := b.flows.fill(ctx); err != nil {
		b.flows.close()
		return nil, err
	}
	b.load = startLoad(ctx, s.network.Client)
	return b, nil
}

// stopTraffic ends both.
func (b *bench) stopTraffic() error {
	b.flows.close()
	return b.load.stop()
}

// try lets a fault happen to a backend once, and waits until everything is well again.
func (b *bench) try(ctx context.Context, f Fault, victim *backend) (trial, error) {
	if err := b.quiet(ctx); err != nil {
		return trial{}, err
	}
	begin := time.Now()
	if err := b.site.inject(f, victim); err != nil {
		return trial{}, err
	}
	t, err := b.observe(ctx, victim, begin)
	if err != nil {
		return trial{}, err
	}
	end := time.Now()
	if err := b.site.heal(ctx, f, victim); err != nil {
		return trial{}, err
	}
	if err := b.recover(ctx, victim); err != nil {
		return trial{}, fmt.Errorf("after the end of the fault %s of %s: %w", f, victim.name, err)
	}
	failed := b.load.failures(begin, end)
	t.failed = len(failed)
	for _, a := range failed {
		if after := a.start.Sub(begin); after >= t.gap {
			t.gap, t.cause = after, a.err
		}
	}
	return t, nil
}

// quiet waits for a moment at which nothing fails. A machine that stalls for long disturbs by itself.
func (b *bench) quiet(ctx context.Context) error {
	var problem error
	for range quietTries {
		runtime.GC() // not during the trial
		b.load.forget()
		if err := stage.Sleep(ctx, leastQuiet+rand.N(mostQuiet-leastQuiet)); err != nil {
			return err
		}
		failed, broken := b.load.failures(time.Time{}, time.Now()), b.flows.disturbed("")
		if len(failed) == 0 && broken == 0 {
			return nil
		}
		problem = fmt.Errorf("while every backend was well %d new connections failed and %d long-lived ones broke", len(failed), broken)
		if len(failed) > 0 {
			problem = fmt.Errorf("%w: %w", problem, failed[0].err)
		}
		if err := b.flows.renew(ctx, ""); err != nil {
			return err
		}
	}
	return problem
}

// observe waits until the fault is detected, and looks at what it does.
func (b *bench) observe(ctx context.Context, victim *backend, begin time.Time) (trial, error) {
	watching, cancel := context.WithDeadline(ctx, begin.Add(detectWithin))
	defer cancel()
	at, err := b.site.contender.ejected(watching, victim.name)
	if ctx.Err() != nil {
		return trial{}, ctx.Err()
	}
	t := trial{detected: err == nil, detect: at.Sub(begin)}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return trial{}, err
	}
	if err := stage.Sleep(ctx, judgedAfter); err != nil {
		return trial{}, err
	}
	t.disturbed = b.flows.disturbed(victim.name)
	return t, nil
}

// recover waits until every backend has its full part again and no new connection fails. Those that began before are
// over then.
func (b *bench) recover(ctx context.Context, victim *backend) error {
	var ready time.Time
	err := stage.Await(ctx, readyWithin, nil, func(ctx context.Context) error {
		now := time.Now()
		err := b.site.contender.ready(ctx)
		for _, a := range b.load.failures(ready, now) {
			if err == nil && !ready.IsZero() && a.start.After(ready) {
				err = fmt.Errorf("new connections still fail: %w", a.err)
			}
		}
		switch {
		case err != nil:
			ready = time.Time{}
		case ready.IsZero():
			ready = now
			err = errSettling
		case now.Sub(ready) < judgedAfter:
			err = errSettling
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.flows.renew(ctx, victim.name)
}

var errSettling = errors.New("connections are under way")
