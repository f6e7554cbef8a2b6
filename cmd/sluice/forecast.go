package main

import "github.com/spf13/cobra"

func newForecastCommand(c *cli) *cobra.Command {
	return newGroup("forecast", "Forecast traffic, and see how good that is",
		newForecastShowCommand(c),
		newForecastConfirmCommand(c),
		newForecastBacktestCommand(c),
	)
}
