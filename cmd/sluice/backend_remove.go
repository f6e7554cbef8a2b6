package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendRemoveCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:   "remove SERVICE BACKEND",
		Short: "Remove a backend from a service",
		Long: `Remove a backend from a service. Its flows end or move to other backends: ` +
			"`sluice backend drain`" + ` first
lets them come to their own end.`,
		Args:              arguments,
		ValidArgsFunction: c.completeBackend,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, backend := args[0], args[1]
			if err := c.client().RemoveBackend(cmd.Context(), service, backend); err != nil {
				return c.noBackend(cmd, service, err)
			}
			removed := control.Change{Action: control.ActionRemove, Kind: control.KindBackend, Name: service + "/" + backend}
			return c.show(cmd, removed, func(p *page) { p.line("removed backend %s of %s", backend, service) })
		},
	})
}
