package probe

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// failure is what went wrong in one step of a probe.
type failure struct {
	step  string // such as "connect"; "" when there is but one
	cause error
}

// Error leaves out what the caller knows: addresses and system calls.
func (f *failure) Error() string {
	if f.step == "" {
		return phrase(f.cause)
	}
	return f.step + ": " + phrase(f.cause)
}

func (f *failure) Unwrap() error { return f.cause }

func phrase(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	}
	return err.Error()
}
