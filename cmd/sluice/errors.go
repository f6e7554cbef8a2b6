package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicelb/sluice/control"
)

// The exit codes, promised to scripts by `sluice help exit-codes`.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnreachable = 5
	exitInvalid     = 6
	exitWarnings    = 7
	exitChanges     = 10
	exitInterrupted = 130 // what shells use for a program that SIGINT ended: 128 and the number of the signal
)

func newExitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes:

   0  it is done; for status: the daemon answered
   1  it failed; for status --check: a service is not ok; for doctor: an error was found
   2  the command line is wrong: unknown command or flag, missing argument
   3  there is no such service, backend or attached program
   4  it conflicts with what is there: a name or address in use, a daemon that runs
   5  no daemon answers on the socket
   6  a value is not allowed: in an argument, a flag, a manifest or the configuration
   7  doctor: warnings were found and no error
  10  apply --dry-run --exit-code: there are changes to make
 130  interrupted; what demo made is removed`,
	}
}

// exitError ends the program with a code of its own. Without a message nothing more is said.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

// usageError is for a command line that cannot be understood.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...)}
}

// invalidInput is for a value that cannot be.
func invalidInput(format string, args ...any) error {
	return &exitError{exitInvalid, fmt.Sprintf(format, args...)}
}

// flagError tells a flag's bad value from a bad flag, and puts both into this program's words.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0)) // the flag is that command's
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return invalidInput("--%s: %v", value.GetFlag().Name, value.Unwrap())
	}
	return usageError("%v", err)
}

// report prints an error of cmd, if any, and returns the exit code.
func (c *cli) report(cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if code == exitOK || err.Error() == "" {
		return code
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(c.stderr, "sluice: %v\n", err)
	switch {
	case code == exitUsage && cmd.HasSubCommands():
		fmt.Fprintf(c.stderr, "`%s --help` lists the commands\n", cmd.CommandPath())
	case code == exitUsage:
		fmt.Fprintf(c.stderr, "usage: %s (--help explains)\n", cmd.UseLine())
	}
	return code
}

func exitCode(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, control.ErrNotFound):
		return exitNotFound
	case errors.Is(err, control.ErrConflict):
		return exitConflict
	case errors.Is(err, control.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, control.ErrInvalid):
		return exitInvalid
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailure
}

// noService adds the way out to an error about a service that is not there.
func noService(err error) error {
	if errors.Is(err, control.ErrNotFound) {
		return fmt.Errorf("%w: `sluice service list` shows them", err)
	}
	return err
}

// noBackend does the same where either the service or its backend may be missing.
func (c *cli) noBackend(cmd *cobra.Command, service string, err error) error {
	if !errors.Is(err, control.ErrNotFound) {
		return err
	}
	if _, missing := c.client().Service(cmd.Context(), service); missing != nil {
		return noService(err)
	}
	return fmt.Errorf("%w: `sluice backend list %s` shows them", err, service)
}
