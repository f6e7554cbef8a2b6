package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/failover"
)

func newBenchFailoverCommand(c *cli) *cobra.Command {
	options := failover.Options{Trials: 20, HAProxy: true, Progress: c.stderr}
	profiles, faults := []string{"default", "fast"}, []string{allValues}
	var quiet time.Duration
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how soon a backend that fails gets no new connections",
		Long: `Let a backend of four fail, again and again, while a new connection is made every 2 ms and 200 long-lived ones
carry requests. Measured are, from the fault on: when the balancer's table has half of the backend's slots
or less, and when the last new connection began that was refused, reset or not answered within a second.

The faults: kill (the process), stop (the process: the kernel still accepts connections), link_down, reset
(every packet is answered with a RST), silent (nothing is answered), loss (of half of all packets, both
ways), slow (answers take 20 ms instead of 2). HAProxy with checks every 10 ms is compared for kill and
silent, where it is installed.

With --false-ejections nothing fails: for so long, with each --profile (by default only default), every
processor is kept busy to 95 %, and what is counted are changes of a backend's state, of which there must
be none. The exit code is 1 when there were, and when connections of other backends than the one that failed
were disturbed.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if quiet > 0 && !cmd.Flags().Changed("profile") {
				profiles = []string{"default"}
			}
			var err error
			if options.Profiles, err = choose("profile", profiles, failover.Profiles()); err != nil {
				return err
			}
			if options.Faults, err = choose("fault", faults, failover.Faults); err != nil {
				return err
			}
			if options.Trials < 1 {
				return invalidInput("--trials: %d is less than 1", options.Trials)
			}
			if options.Executable, err = os.Executable(); err != nil {
				return err
			}
			return c.benchFailover(cmd, options, quiet)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Trials, "trials", options.Trials, "`NUMBER` of trials of each fault and profile")
	flags.StringSliceVar(&profiles, "profile", profiles, "probes, a `PROFILE` or several: default, fast, gentle; all")
	flags.StringSliceVar(&faults, "fault", faults, "a `FAULT` or several; all")
	flags.TextVar(&options.Mode, "mode", dataplane.ModeNAT, "how packets reach the backends: `nat|l2|ipip|gue`")
	completeFlag(cmd, "mode", "nat", "l2", "ipip", "gue")
	flags.BoolVar(&options.HAProxy, "haproxy", options.HAProxy, "compare with HAProxy, where it is installed")
	flags.DurationVar(&quiet, "false-ejections", 0, "let nothing fail for a `DURATION`, under load, and count changes of state")
	completeFlag(cmd, "profile", append(failover.Profiles(), allValues)...)
	return outputFlag(cmd, formatTable, formatJSON)
}

// benchFailover measures and prints the report.
func (c *cli) benchFailover(cmd *cobra.Command, options failover.Options, quiet time.Duration) error {
	measure := failover.Run
	if quiet > 0 {
		measure = func(ctx context.Context, o failover.Options) (failover.Report, error) {
			return failover.FalseEjections(ctx, o, quiet)
		}
	}
	report, err := measure(cmd.Context(), options)
	return c.showBench(cmd, &report, err)
}

// newBenchFailoverBackendCommand is what the benchmark starts its backends with.
func newBenchFailoverBackendCommand() *cobra.Command {
	return &cobra.Command{
		Use:    failover.BackendCommand + " NAME SOCKET",
		Short:  "Be a backend of the benchmark",
		Hidden: true,
		Args:   arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return failover.RunBackend(cmd.Context(), args[0], args[1])
		},
	}
}

// newBenchFailoverBusyCommand is what keeps processors busy for --false-ejections.
func newBenchFailoverBusyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    failover.BusyCommand + " PROCESSOR",
		Short:  "Keep a processor busy",
		Hidden: true,
		Args:   arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			processor, err := strconv.Atoi(args[0])
			if err != nil {
				return invalidInput("%q is no number of a processor", args[0])
			}
			return failover.RunBusy(cmd.Context(), processor)
		},
	}
}
