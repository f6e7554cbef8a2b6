package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendSetCommand(c *cli) *cobra.Command {
	var patch control.BackendPatch
	var probe control.Probe
	cmd := &cobra.Command{
		Use:               "set SERVICE BACKEND",
		Short:             "Change a backend; what no flag names stays",
		Example:           "  sluice backend set web 192.168.1.13 --weight 0",
		Args:              arguments,
		ValidArgsFunction: c.completeBackend,
		RunE: func(cmd *cobra.Command, args []string) error {
			if probe != (control.Probe{}) {
				patch.Probe = &probe
			}
			if patch == (control.BackendPatch{}) {
				return usageError("nothing to change: give a flag")
			}
			return c.updateBackend(cmd, args[0], args[1], patch)
		},
	}
	optional(cmd, &patch.Name, "name", "new `NAME`", fromString)
	weightFlag(cmd, &patch.Weight)
	stateFlag(cmd, &patch.State)
	setFlags(cmd, &patch)
	probeFlags(cmd, &probe)
	return outputFlag(cmd)
}
