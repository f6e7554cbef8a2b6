package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newForecastConfirmCommand(c *cli) *cobra.Command {
	var last time.Duration
	cmd := &cobra.Command{
		Use:   "confirm SERVICE",
		Short: "Have anomalies learnt from: traffic is so now",
		Long: `Minutes that were not as expected are not learnt from, so that an accident is not taken for how traffic is. Confirm
those that were no accident.`,
		Example:           "  sluice forecast confirm web --last 2h",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if last <= 0 {
				return invalidInput("--last: %v is not above 0", last)
			}
			now := time.Now()
			confirmed, err := c.client().ConfirmAnomalies(cmd.Context(), args[0], control.ConfirmRequest{From: now.Add(-last), To: now})
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, confirmed, func(p *page) {
				p.line("%s of service %s from the last %v will be learnt from", plural(confirmed.Minutes, "minute"), args[0], last)
			})
		},
	}
	lastFlag(cmd, &last, 24*time.Hour)
	return outputFlag(cmd)
}
