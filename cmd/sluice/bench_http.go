package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/throughput"
)

func newBenchHTTPCommand(c *cli) *cobra.Command {
	options := throughput.Options{Rounds: 5, Duration: 3 * time.Second, Progress: c.stderr}
	var seconds float64
	xdpMode := dataplane.XDPAuto.String()
	contenders := []string{"forwarding", "nftables", "haproxy", "sluice-nat", "sluice-l2", "sluice-ipip"}
	workloads := []string{allValues}
	cmd := &cobra.Command{
		Use:   "http",
		Short: "Measure HTTP through Sluice, nftables, HAProxy and a mere router",
		Long: `Have a client make requests of four backends, through each contender by turns, and measure

  connections   new connections per second: 64 at a time, a request of 128 bytes on each
  keepalive     requests per second on 64 connections that stay open
  bulk          Gbit per second of answers of 1 MiB, on 8 connections

and the time that the machine's processors spend for a request, on everything: client, servers and kernel; and
how much of that in software interrupts. Connections and requests keep every processor busy.

The contenders: forwarding (the kernel routes to one backend: the limit), nftables (DNAT), haproxy (TCP mode),
sluice-nat, sluice-l2, sluice-ipip and sluice-gue (the daemon as it is by default but for the mode). In each round
everyone has a turn, on hosts of its own. What is shown are medians; ratios compare rates of the same round. The
exit code is 1 when a request failed.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.Contenders, err = choose("contenders", contenders, throughput.Contenders); err != nil {
				return err
			}
			if options.Workloads, err = choose("workloads", workloads, throughput.Workloads); err != nil {
				return err
			}
			if options.Rounds < 1 {
				return invalidInput("--rounds: %d is less than 1", options.Rounds)
			}
			if options.Duration = time.Duration(seconds * float64(time.Second)); options.Duration < minMeasurement {
				return invalidInput("--seconds: %v is less than %v", seconds, minMeasurement.Seconds())
			}
			if err := options.XDPMode.UnmarshalText([]byte(xdpMode)); err != nil {
				return invalidInput("--xdp-mode: %v", err)
			}
			if options.Executable, err = os.Executable(); err != nil {
				return err
			}
			report, err := throughput.Run(cmd.Context(), options)
			return c.showBench(cmd, &report, err)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Rounds, "rounds", options.Rounds, "`NUMBER` of turns of each contender")
	flags.Float64Var(&seconds, "seconds", options.Duration.Seconds(), "`LENGTH` of each measurement")
	flags.StringSliceVar(&contenders, "contenders", contenders, "a `CONTENDER` or several; all")
	flags.StringSliceVar(&workloads, "workloads", workloads, "a `WORKLOAD` or several; all")
	flags.StringVar(&xdpMode, "xdp-mode", xdpMode, "of Sluice, a `MODE`: auto, native, generic")
	flags.BoolVar(&options.Threaded, "threaded-napi", false, "the kernel receives in threads of its own on the balancer")
	completeFlag(cmd, "contenders", append(texts(throughput.Contenders), allValues)...)
	completeFlag(cmd, "workloads", append(texts(throughput.Workloads), allValues)...)
	completeFlag(cmd, "xdp-mode", "auto", "native", "generic")
	return outputFlag(cmd, formatTable, formatJSON)
}

// minMeasurement is some ticks of the clock that the kernel counts processors' time with.
const minMeasurement = 100 * time.Millisecond

// newBenchHTTPServerCommand is what the benchmark starts its servers with.
func newBenchHTTPServerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    throughput.ServerCommand,
		Short:  "Be a server of the benchmark",
		Hidden: true,
		Args:   arguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return throughput.RunServer(cmd.Context()) },
	}
}

// newBenchHTTPClientCommand is what the benchmark starts its clients with.
func newBenchHTTPClientCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    throughput.ClientCommand + " WORKLOAD TARGET DURATION",
		Short:  "Be a client of the benchmark",
		Hidden: true,
		Args:   arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			duration, err := time.ParseDuration(args[2])
			if err != nil {
				return invalidInput("%v", err)
			}
			return throughput.RunClient(cmd.Context(), c.stdout, throughput.Workload(args[0]), args[1], duration)
		},
	}
}
