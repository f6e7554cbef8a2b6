package main

import "github.com/spf13/cobra"

func newCacheCommand(c *cli) *cobra.Command {
	return newGroup("cache", "Find out what a cache of metadata would do",
		newCacheReplayCommand(c),
	)
}
