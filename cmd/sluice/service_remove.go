package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newServiceRemoveCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "remove SERVICE",
		Short:             "Remove a service and its backends",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.client().RemoveService(cmd.Context(), args[0]); err != nil {
				return noService(err)
			}
			removed := control.Change{Action: control.ActionRemove, Kind: control.KindService, Name: args[0]}
			return c.show(cmd, removed, func(p *page) { p.line("removed service %s", args[0]) })
		},
	})
}
