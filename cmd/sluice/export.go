package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newExportCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "export",
		Short:             "Print every service and planned event as a manifest for apply",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := c.client().Services(cmd.Context())
			if err != nil {
				return err
			}
			events, err := c.client().PlannedEvents(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(cmd, control.Manifest{Services: services, Events: events}.Minimal(), nil)
		},
	}, formatYAML, formatJSON)
}
