package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendDrainCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:   "drain SERVICE BACKEND",
		Short: "Give a backend no new flows; its flows stay",
		Long: `Give a backend no new flows, while those that it has stay. Once they have ended it can be removed;
` + "`sluice backend set SERVICE BACKEND --state up` brings it back.",
		Args:              arguments,
		ValidArgsFunction: c.completeBackend,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.updateBackend(cmd, args[0], args[1], control.BackendPatch{State: new(control.StateDraining)})
		},
	})
}
