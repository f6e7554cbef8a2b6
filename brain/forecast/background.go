package forecast

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Background is how training runs beside what is more important. Its zero value is ready for use.
type Background struct {
	Share float64 // of one processor that it may take on average, above 0 to 1; 0 is 0.05
}

const (
	// lowest is the nice value that yields to all others (setpriority(2)).
	lowest = 19
	// burst is how much processor time work may be ahead of its share.
	burst = 20 * time.Millisecond
)

// Do runs work on a thread of the lowest priority, and returns its error. Whenever work asks its context whether it is done,
// as all models do every few milliseconds, it is made to wait until it has its share again.
//
// What work does in other goroutines is neither slowed nor counted: of the models that is the search for parameters
// of holt-winters, arima and formula, some 2 % of all.
func (b Background) Do(ctx context.Context, work func(context.Context) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its priority with it
		paced, err := b.pace(ctx)
		if err == nil {
			err = work(paced)
		}
		done <- err
	}()
	return <-done
}

// paced is a context that holds its thread back.
type paced struct {
	context.Context
	thread int
	share  float64
	began  time.Time
	before time.Duration // processor time of the thread at that moment
}

func (b Background) pace(ctx context.Context) (*paced, error) {
	p := &paced{Context: ctx, thread: unix.Gettid(), share: b.Share, began: time.Now()}
	if p.share == 0 {
		p.share = 0.05
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, p.thread, lowest); err != nil {
		return nil, fmt.Errorf("lowering the priority of training: %w", err)
	}
	var err error
	p.before, err = processorTime()
	return p, err
}

// Err waits until the thread has its share again, and returns the context's error.
func (p *paced) Err() error {
	if err := p.Context.Err(); err != nil || unix.Gettid() != p.thread {
		return err
	}
	now, err := processorTime()
	if err != nil {
		return err
	}
	ahead := now - p.before - time.Duration(p.share*float64(time.Since(p.began)))
	if ahead < burst {
		return nil
	}
	select {
	case <-p.Context.Done():
	case <-time.After(time.Duration(float64(ahead) / p.share)):
	}
	return p.Context.Err()
}

// processorTime returns what this thread has used of a processor.
func processorTime() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("reading the thread's processor time: %w", err)
	}
	return time.Duration(now.Nano()), nil
}
