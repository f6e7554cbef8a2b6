package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/p2c"
	"github.com/sluicelb/sluice/test/stage"
)

func newBenchP2CCommand(c *cli) *cobra.Command {
	options := p2c.Options{Backends: 10, Slow: 4, Rate: 500, Duration: 20 * time.Second, Rounds: 5, Progress: c.stderr}
	kind := string(control.ProbeNone)
	cmd := &cobra.Command{
		Use:   "p2c",
		Short: "Compare power of two choices with plain Maglev while one backend is slow",
		Long: `Send requests, each over a new connection, to backends one of which is slower than the others, in rounds with
policy maglev and with policy p2c by turns. Measured are the time of a request, from the moment that it was
due, which part of the requests the slow backend gets, and which part of the flows is remembered.

Requests are due at random times (a Poisson process, the same in both rounds of a pair), whether those before
were answered or not. Each backend serves one at a time, in 4 ms on average, exponentially distributed; the
others wait. With the default rate an equal share keeps the slow backend busy for 80 % of the time.

Without probes, which is the default, weights stay equal; with --probe http they follow the latency of
probes. In mode nat all flows are remembered, whatever the policy.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Probe = probe.Kind(kind)
			err := checkBenchP2C(options)
			if err != nil {
				return err
			}
			if options.Executable, err = os.Executable(); err != nil {
				return err
			}
			report, err := p2c.Run(cmd.Context(), options)
			return c.showBench(cmd, &report, err)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Backends, "backends", options.Backends, "`NUMBER` of backends")
	flags.Float64Var(&options.Slow, "slow", options.Slow, "how many `TIMES` longer the slow one takes")
	flags.Float64Var(&options.Rate, "rate", options.Rate, "`REQUESTS` a second on average")
	flags.DurationVar(&options.Duration, "duration", options.Duration, "`DURATION` of a round")
	flags.IntVar(&options.Rounds, "rounds", options.Rounds, "`NUMBER` of rounds of each policy")
	flags.TextVar(&options.Mode, "mode", dataplane.ModeL2, "how packets reach the backends: `nat|l2|ipip|gue`")
	completeFlag(cmd, "mode", "nat", "l2", "ipip", "gue")
	flags.StringVar(&kind, "probe", kind, "probes of the backends: `none|tcp|http`")
	completeFlag(cmd, "probe", "none", "tcp", "http")
	return outputFlag(cmd, formatTable, formatJSON)
}

// leastRequests is how many requests of a round have a 99th percentile.
const leastRequests = 100

// checkBenchP2C refuses what could not be measured.
func checkBenchP2C(o p2c.Options) error {
	requests := o.Rate * o.Duration.Seconds()
	switch {
	case o.Probe != control.ProbeNone && o.Probe != probe.TCP && o.Probe != probe.HTTP:
		return invalidInput("--probe: %q is not known (known: none, tcp, http)", o.Probe)
	case o.Backends < 2 || o.Backends > stage.MaxBackends:
		return invalidInput("--backends: %d is not between 2 and %d", o.Backends, stage.MaxBackends)
	case !(o.Slow >= 1 && o.Slow <= 1000):
		return invalidInput("--slow: %g is not between 1 and 1000", o.Slow)
	case o.Rounds < 1:
		return invalidInput("--rounds: %d is less than 1", o.Rounds)
	case o.Duration < time.Second || o.Duration > p2c.LongestRound:
		return invalidInput("--duration: %v is not between 1s and %v; for more requests take more --rounds", o.Duration, p2c.LongestRound)
	case !(o.Rate < o.Capacity()):
		return invalidInput("--rate: the backends can serve %.0f requests/s together, which %g must be less than", o.Capacity(), o.Rate)
	case !(requests >= leastRequests && requests <= p2c.MostRequests):
		return invalidInput("--rate: %g requests/s are %.0f in a round of %v, which must be between %d and %d", o.Rate, requests, o.Duration, leastRequests, p2c.MostRequests)
	}
	return nil
}
