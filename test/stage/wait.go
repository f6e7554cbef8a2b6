package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/lab"
)

// Await waits until problem returns nil, which it is asked every 20 ms. It gives up with the last problem after so
// long, and at once when the process that all depends on ends; that may be nil.
func Await(ctx context.Context, within time.Duration, process *lab.Process, problem func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var ended <-chan struct{}
	if process != nil {
		ended = process.Done()
	}
	var last error
	for {
		err := problem(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil { // otherwise it only says that time is up
			last = err
		}
		select {
		case <-ended:
			return Ended(process)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("not ready within %v: %w", within, last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ended is the error of a process that ended before its time.
func Ended(process *lab.Process) error {
	lines := strings.Split(strings.TrimSpace(process.Output()), "\n")
	return fmt.Errorf("%s ended: %s", process.Name(), lines[len(lines)-1])
}

// Sleep waits, or returns the error of a context that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CauseOf prefers the reason that ctx has ended for to an error that follows from it.
func CauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
