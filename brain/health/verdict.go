package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Verdict says whether a target is up.
type Verdict struct {
	Up    bool
	Cause string    // what led to it, such as "3 of 3 probes failed: connection refused"; "" for a new target
	Since time.Time // when it was reached
}

// history is a verdict and the results that speak against it.
type history struct {
	verdict    Verdict
	rise, fall int
	against    int // in a row
}

// observe takes the result of a probe, "" for a success, and says whether the verdict has changed.
func (h *history) observe(failure string, now time.Time) bool {
	if h.verdict.Up == (failure == "") {
		h.against = 0
		return false
	}
	h.against++
	switch {
	case h.verdict.Up && h.against >= h.fall:
		h.verdict = Verdict{Up: false, Cause: fmt.Sprintf("%d of %d probes failed: %s", h.fall, h.fall, failure), Since: now}
	case !h.verdict.Up && h.against >= h.rise:
		h.verdict = Verdict{Up: true, Cause: fmt.Sprintf("%d of %d probes succeeded", h.rise, h.rise), Since: now}
	default:
		return false
	}
	h.against = 0
	return true
}

// doubtful says that a target that is up has begun to fail.
func (h *history) doubtful() bool { return h.verdict.Up && h.against > 0 }

// reason says in a phrase why a probe failed.
func reason(err error, timeout time.Duration) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %v", timeout)
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// inconclusive says that a probe failed for want of something on this host, which tells nothing about
// the target.
func inconclusive(err error) bool {
	for _, local := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}
