package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newEventRemoveCommand(c *cli) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:               "remove SERVICE EVENT",
		Short:             "Remove the planned events of a service with a name",
		Args:              arguments,
		ValidArgsFunction: c.completeEvent,
		RunE: func(cmd *cobra.Command, args []string) error {
			var begins time.Time
			if at != "" {
				var err error
				if begins, err = time.Parse(time.RFC3339, at); err != nil {
					return invalidInput("--at: %q is no time such as 2026-11-27T09:00:00Z", at)
				}
			}
			if err := c.client().RemovePlannedEvent(cmd.Context(), args[0], args[1], begins); err != nil {
				if errors.Is(err, control.ErrNotFound) {
					return fmt.Errorf("%w: `sluice event list` shows them", err)
				}
				return err
			}
			removed := control.Change{Action: control.ActionRemove, Kind: control.KindEvent, Name: args[0] + "/" + args[1]}
			return c.show(cmd, removed, func(p *page) { p.line("removed event %s of service %s", args[1], args[0]) })
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "only the one that begins at this `TIME`, in RFC 3339")
	completeFlag(cmd, "at")
	return outputFlag(cmd)
}

// completeEvent offers the services for the first argument and that one's planned events for the second.
func (c *cli) completeEvent(cmd *cobra.Command, args []string, prefix string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeService(cmd, args, prefix)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	events, _ := c.client().PlannedEvents(ctx)
	for _, e := range events {
		if e.Service == args[0] {
			names = append(names, cobra.CompletionWithDesc(e.Name, beginning(e)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
