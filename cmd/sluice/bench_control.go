package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/test/controlplane"
)

func newBenchControlCommand(c *cli) *cobra.Command {
	options := controlplane.Options{Services: 1000, Backends: 100, Changes: 100, Rounds: 3, Progress: c.stderr}
	probes := []string{allValues}
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Measure what very many services and backends cost the daemon",
		Long: `Give a daemon very many services at once, change one after the other, and start another daemon that adopts what
the first one left. Measured are the time until the kernel has all tables, the time until it has that of one
service that is changed (the weight of a backend, a backend added, a backend removed), the time from the
start of the new daemon until it is ready, and what both hold in memory and take of a processor when they
are left alone.

With the probes of the default, each backend is an address of a server that answers them; as many are sent
as probes.rate allows. With none, nothing is sent. Each round begins with nothing.

The exit code is 1 when a service had no table after all were applied, and when one had another table after
the restart.`,
		Example: `  sluice bench control --services 1 --backends 10000
  sluice bench control --probes none --rounds 1 -o json`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.Probes, err = choose("probes", probes, controlplane.AllProbes); err != nil {
				return err
			}
			if err := options.Check(); err != nil {
				return invalidInput("%v", err)
			}
			if options.Executable, err = os.Executable(); err != nil {
				return err
			}
			report, err := controlplane.Run(cmd.Context(), options)
			return c.showBench(cmd, &report, err)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Services, "services", options.Services, "`NUMBER` of services")
	flags.IntVar(&options.Backends, "backends", options.Backends, "`NUMBER` of backends of each service")
	flags.IntVar(&options.Changes, "changes", options.Changes, "`NUMBER` of changes of each kind in each round")
	flags.IntVar(&options.Rounds, "rounds", options.Rounds, "`NUMBER` of rounds")
	flags.StringSliceVar(&probes, "probes", probes, "`none|default`, or both with commas; all")
	completeFlag(cmd, "probes", string(controlplane.NoProbes), string(controlplane.DefaultProbes), allValues)
	return outputFlag(cmd, formatTable, formatJSON)
}
