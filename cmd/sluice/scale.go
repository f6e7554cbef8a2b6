package main

import "github.com/spf13/cobra"

func newScaleCommand(c *cli) *cobra.Command {
	return newGroup("scale", "Have services scale, and see what is decided and why",
		newScaleShowCommand(c),
		newScaleSetCommand(c),
		newScaleOffCommand(c),
		newScalePauseCommand(c),
		newScaleResumeCommand(c),
		newScaleReplayCommand(c),
	)
}
