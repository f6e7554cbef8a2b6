// Package executor has instances started and stopped: by a command, a webhook, or Kubernetes.
//
// An executor is told how many instances there shall be, not how many more: asked twice it does nothing twice. Each order has a key that
// is the same for every attempt, and a fencing token that grows with every holder of the lease: whoever carries out orders refuses
// one with a smaller token than it has seen, so that of two brains the one that lost its lease without knowing cannot act.
package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Order is what an executor is asked for.
type Order struct {
	Service   string    `json:"service"`
	Instances int       `json:"instances"`        // that there shall be
	Was       int       `json:"was"`              // that there are, as far as is known
	Remove    []string  `json:"remove,omitempty"` // backends that are drained and may end
	Reasons   []string  `json:"reasons"`
	Key       string    `json:"key"`   // the same for each attempt
	Token     uint64    `json:"token"` // fencing: refuse an order with a smaller one than the greatest seen
	Time      time.Time `json:"time"`
}

// Backend is an instance that an executor has started.
type Backend struct {
	Name    string     `json:"name,omitempty"`
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"`
	Zone    string     `json:"zone,omitempty"`
	Rack    string     `json:"rack,omitempty"`
}

// Result is what came of an order. Without backends they are found in another way, as where a controller registers them.
type Result struct {
	Backends []Backend `json:"backends,omitempty"` // new ones
}

// Executor carries out orders. Implementations are safe for concurrent use, return soon after ctx is done, and never
// show secrets in errors.
type Executor interface {
	Execute(ctx context.Context, o Order) (Result, error)
}

// None only recommends.
type None struct{}

// Execute does nothing.
func (None) Execute(context.Context, Order) (Result, error) { return Result{}, nil }

// permanent is an error that another attempt would not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error as one that another attempt would not mend.
func Permanent(err error) error { return permanent{err} }

// Retry tries orders again.
type Retry struct {
	Executor Executor
	Attempts int           // at most; 0 is 4
	Timeout  time.Duration // of each; 0 is 30 s
	Pause    time.Duration // before the second attempt; twice as long before each one after it, up to a minute. 0 is 1 s
}

const longestPause = time.Minute

// Execute returns the result of the first attempt that succeeds, or the last one's error. Pauses are shortened at random by up to a
// half, so that those who failed together do not come again together.
func (r Retry) Execute(ctx context.Context, o Order) (Result, error) {
	attempts, timeout, pause := r.Attempts, r.Timeout, r.Pause
	if attempts == 0 {
		attempts = 4
	}
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	if pause == 0 {
		pause = time.Second
	}
	for attempt := 1; ; attempt++ {
		result, err := r.once(ctx, o, timeout)
		var p permanent
		switch {
		case err == nil:
			return result, nil
		case ctx.Err() != nil:
			return Result{}, fmt.Errorf("service %s, order %s: %w", o.Service, o.Key, ctx.Err())
		case errors.As(err, &p), attempt >= attempts:
			return Result{}, fmt.Errorf("service %s, order %s for %d instances failed in attempt %d: %w", o.Service, o.Key, o.Instances, attempt, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration((0.5 + 0.5*rand.Float64()) * float64(pause))):
		}
		pause = min(2*pause, longestPause)
	}
}

func (r Retry) once(ctx context.Context, o Order, timeout time.Duration) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := r.Executor.Execute(ctx, o)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v: %w", timeout, err)
	}
	return result, err
}
