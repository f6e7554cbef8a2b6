package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/test/demo"
)

// newDemoBackendCommand is what the demo starts its backends with.
func newDemoBackendCommand() *cobra.Command {
	return &cobra.Command{
		Use:    demo.BackendCommand + " NAME",
		Short:  "Be a backend of the demo",
		Hidden: true,
		Args:   arguments,
		RunE:   func(cmd *cobra.Command, args []string) error { return demo.RunBackend(cmd.Context(), args[0]) },
	}
}
