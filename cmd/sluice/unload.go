package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// answerTimeout is how long to wait for a daemon that may be stuck.
const answerTimeout = 3 * time.Second

func newUnloadCommand(c *cli) *cobra.Command {
	var yes, force bool
	var pinPath string
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Detach Sluice from this host's interfaces and remove it from the kernel",
		Long: `Detach the programs from this host's interfaces and remove everything that is pinned. Packets for services
then reach the host's own stack, and connections through Sluice break. What is desired stays in the store:
` + "`sluice run`" + ` loads it again.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(pinPath); errors.Is(err, os.ErrNotExist) {
				_, err := fmt.Fprintf(c.stdout, "nothing is loaded: there is no %s\n", pinPath)
				return err
			}
			if !force {
				if err := c.daemonGone(cmd.Context()); err != nil {
					return err
				}
			}
			if !yes {
				if err := c.confirm(cmd.Context(), "Stop load balancing on this host and break its connections?"); err != nil {
					return err
				}
			}
			if err := dataplane.Unload(pinPath); err != nil {
				return fmt.Errorf("unloading %s: %w", pinPath, err)
			}
			_, err := fmt.Fprintf(c.stdout, "unloaded %s\n", pinPath)
			return err
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "even while the daemon runs, which does not load it again by itself")
	pinPathFlag(cmd, &pinPath)
	return cmd
}

// daemonGone returns an error unless it is certain that no daemon answers.
func (c *cli) daemonGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := c.client().Version(ctx); errors.Is(err, control.ErrUnreachable) {
		return nil
	}
	return &exitError{exitConflict, fmt.Sprintf("a daemon runs on %s: stop it first, or give --force", c.socket)}
}

// confirm asks the user and returns nil for a yes.
func (c *cli) confirm(ctx context.Context, question string) error {
	if !c.interactive {
		return usageError("nobody to ask: give --yes")
	}
	fmt.Fprintf(c.stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.stderr)
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
	}
	return &exitError{exitFailure, "nothing was unloaded"}
}
