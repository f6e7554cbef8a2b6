package main

import "github.com/spf13/cobra"

func newScaleCommand(c *cli) *cobra.Command {
	return newGroup("scale", "See what scaling policies would do",
		newScaleReplayCommand(c),
	)
}
