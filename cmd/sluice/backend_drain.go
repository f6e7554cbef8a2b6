package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
)

// drainPause is how often it is looked whether the last flow is gone.
const drainPause = time.Second

func newBackendDrainCommand(c *cli) *cobra.Command {
	wait := false
	deadline, idle := control.Duration(10*time.Minute), control.Duration(control.DefaultIdle)
	cmd := &cobra.Command{
		Use:   "drain SERVICE BACKEND",
		Short: "Give a backend no new flows; its flows stay",
		Long: `Give a backend no new flows, while those that it has stay. Once they have ended it can be removed;
` + "`sluice backend set SERVICE BACKEND --state up`" + ` brings it back.

With --wait it returns when the last flow is gone: closed, or without a packet for the time of --idle. At the deadline it
says how many are left, with exit code 1; the backend goes on draining.`,
		Example:           "  sluice backend drain web 192.168.1.13 --wait --deadline 5m && sluice backend remove web 192.168.1.13",
		Args:              arguments,
		ValidArgsFunction: c.completeBackend,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.updateBackend(cmd, args[0], args[1], control.BackendPatch{State: new(control.StateDraining)})
			if err != nil || !wait {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			return c.awaitDrained(ctx, args[0], args[1], time.Duration(deadline), time.Duration(idle))
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return when its last flow is gone")
	for name, target := range map[string]*control.Duration{"deadline": &deadline, "idle": &idle} {
		what := map[string]string{
			"deadline": "with --wait: give up after this `DURATION` (default 10m)",
			"idle":     "with --wait: flows without a packet for this `DURATION` are gone, 1s to 9h (default 1m)",
		}[name]
		cmd.Flags().Func(name, what, func(text string) error {
			err := target.UnmarshalText([]byte(text))
			return positive(text, *target, "a duration above 0, such as 5m", err)
		})
	}
	return outputFlag(cmd)
}

// awaitDrained waits until a draining backend has no flows any more, and says now and then how many it has.
func (c *cli) awaitDrained(ctx context.Context, service, backend string, deadline, idle time.Duration) error {
	began := time.Now()
	last := -1
	for {
		flows, err := c.client().LiveFlows(ctx, service, backend, idle)
		if err != nil {
			return err
		}
		took := time.Since(began).Round(time.Second)
		switch {
		case flows == 0:
			fmt.Fprintf(c.stderr, "drained after %s\n", took)
			return nil
		case took >= deadline:
			return errors.New(plural(flows, "flow") + " left after " + took.String() + "; the backend goes on draining")
		case flows != last:
			fmt.Fprintf(c.stderr, "%s left after %s\n", plural(flows, "flow"), took)
			last = flows
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(drainPause, max(deadline-time.Since(began), time.Millisecond))):
		}
	}
}
