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
	Cause string    // what led to it, such as "3 of 3 probes failed within 41ms: no answer within 20ms"; "" for a new target
	Since time.Time // when it was reached
}

// history is a verdict and the results that speak against it.
type history struct {
	verdict    Verdict
	rise, fall int
	against    int       // in a row
	first      time.Time // when the first of these probes began
}

// observe takes the result of a probe, "" for a success, and says whether the verdict has changed.
func (h *history) observe(failure string, began, now time.Time) bool {
	if h.verdict.Up == (failure == "") {
		h.against = 0
		return false
	}
	if h.against == 0 || began.Before(h.first) {
		h.first = began
	}
	h.against++
	switch {
	case h.verdict.Up && h.against >= h.fall:
		took := now.Sub(h.first).Round(time.Millisecond)
		h.verdict = Verdict{Cause: fmt.Sprintf("%d of %d probes failed within %v: %s", h.fall, h.fall, took, failure), Since: now}
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
	switch {
	case err == nil:
		return ""
	case isTimeout(err):
		return fmt.Sprintf("%v within %v", err, timeout.Round(100*time.Microsecond)) // "connect: no answer within 20ms"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// inconclusive says that a probe failed for want of something on this host, which tells nothing about the target. Among
// that is time: late is for how much of it this process did not run, and may have left an answer unread.
func inconclusive(err error, timeout, late time.Duration) bool {
	if isTimeout(err) && late > max(timeout/4, 2*time.Millisecond) {
		return true
	}
	for _, local := range []error{
		ErrNotSent, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
		syscall.EAGAIN, syscall.EPERM, syscall.EACCES, // no process, no right to send, a firewall of this host
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}
