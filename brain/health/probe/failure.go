package probe

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// Failure is what went wrong in one step of an exchange with a server.
type Failure struct {
	Step  string // such as "connect"; "" when there is but one
	Cause error
}

// Error leaves out what the caller knows: addresses and system calls.
func (f *Failure) Error() string {
	if f.Step == "" {
		return phrase(f.Cause)
	}
	return f.Step + ": " + phrase(f.Cause)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

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
