// Sluice is a layer-4 load balancer for Linux hosts: `sluice run` is its daemon, every other command asks
// that daemon for something. The commands are thin, one to a file; what they do is in package control.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	c := &cli{
		stdin:       os.Stdin,
		stdout:      os.Stdout,
		stderr:      os.Stderr,
		interactive: term.IsTerminal(int(os.Stdin.Fd())),
		terminal:    term.IsTerminal(int(os.Stdout.Fd())),
		progress:    term.IsTerminal(int(os.Stderr.Fd())),
	}
	os.Exit(c.run(ctx, os.Args[1:]))
}
