package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newServiceSetCommand(c *cli) *cobra.Command {
	var patch control.ServicePatch
	var probe control.Probe
	var health control.Health
	var asked control.Load
	cmd := &cobra.Command{
		Use:               "set SERVICE",
		Short:             "Change a service; what no flag names stays",
		Example:           "  sluice service set web --probe-interval 500ms --fall 5",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if probe != (control.Probe{}) {
				patch.Probe = &probe
			}
			if health != (control.Health{}) {
				patch.Health = &health
			}
			if asked != (control.Load{}) {
				patch.Load = &asked
			}
			if patch == (control.ServicePatch{}) {
				return usageError("nothing to change: give a flag")
			}
			s, err := c.client().UpdateService(cmd.Context(), args[0], patch)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, s, func(p *page) { p.line("changed service %s: %s", s.Name, describeService(s)) })
		},
	}
	optional(cmd, &patch.Name, "name", "new `NAME`", fromString)
	modeFlag(cmd, &patch.Mode)
	selectionFlags(cmd, &patch)
	probeFlags(cmd, &probe)
	healthFlags(cmd, &health, &asked)
	return outputFlag(cmd)
}
