package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Load repeats an Exchange.
type Load struct {
	Exchange Exchange
	Workers  int                  // exchanges at the same time, 0 is 1
	Count    int                  // exchanges in all, 0: until the context ends
	Rate     float64              // exchanges started per second at most, 0: as many as the workers can
	Gap      func() time.Duration // until the next one starts; nil: by Rate
	Timeout  time.Duration        // of one exchange, 0 is 5 s
	Observe  func(Result)         // is told of every exchange, by one worker at a time; may be nil
}

// Result is one exchange of a Load.
type Result struct {
	Start, End time.Time
	Backend    string // "" when none answered
	Err        error
}

// Report sums up a Load.
type Report struct {
	Requests int
	Failed   int
	Backends map[string]int // successful exchanges by backend
	Errors   []error        // of the failed ones, the first ten
}

// Err is nil when nothing failed.
func (r Report) Err() error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d exchanges failed, among them: %w", r.Failed, r.Requests, errors.Join(r.Errors...))
}

// Run starts exchanges until Count is reached or ctx ends, and returns when all that were started are over.
func (l Load) Run(ctx context.Context) Report {
	report := Report{Backends: make(map[string]int)}
	var mu sync.Mutex
	var workers sync.WaitGroup
	tickets := make(chan struct{})
	for range max(l.Workers, 1) {
		workers.Go(func() {
			for range tickets {
				result := l.once(ctx)
				mu.Lock()
				report.add(result)
				if l.Observe != nil {
					l.Observe(result)
				}
				mu.Unlock()
			}
		})
	}
	l.issue(ctx, tickets)
	close(tickets)
	workers.Wait()
	return report
}

// issue gives out a ticket for each exchange. When every worker is busy the pace falls.
func (l Load) issue(ctx context.Context, tickets chan<- struct{}) {
	var pace <-chan time.Time
	next := time.Now()
	if l.Gap == nil && l.Rate > 0 {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / l.Rate))
		defer ticker.Stop()
		pace = ticker.C
	}
	for n := 0; l.Count == 0 || n < l.Count; n++ {
		if l.Gap != nil {
			next = next.Add(l.Gap())
			pace = time.After(time.Until(next))
		}
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
		}
		select {
		case tickets <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// once makes one exchange, which the end of ctx does not break off.
func (l Load) once(ctx context.Context) Result {
	timeout := l.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	result := Result{Start: time.Now()}
	result.Backend, result.Err = l.Exchange(ctx)
	result.End = time.Now()
	return result
}

func (r *Report) add(result Result) {
	r.Requests++
	if result.Err == nil {
		r.Backends[result.Backend]++
		return
	}
	r.Failed++
	if len(r.Errors) < 10 {
		r.Errors = append(r.Errors, result.Err)
	}
}
