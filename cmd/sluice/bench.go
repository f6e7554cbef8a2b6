package main

import "github.com/spf13/cobra"

func newBenchCommand(c *cli) *cobra.Command {
	group := newGroup("bench", "Measure Sluice on this machine, in namespaces of its own",
		newBenchFailoverCommand(c),
	)
	group.Long = `Measure Sluice on this machine: the daemon, servers and clients run in network namespaces that are made for it and
removed in the end. It needs root. Figures of different machines compare badly; docs/benchmarks.md has some.`
	return group
}
