package main

import (
	"context"
	"encoding"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/packetcost"
)

// dataplaneChoice is the flags of `bench dataplane` that name what is combined to rows.
type dataplaneChoice struct {
	families, modes, traffic, tracking []string
}

func newBenchDataplaneCommand(c *cli) *cobra.Command {
	options := packetcost.Options{
		Flows: []int{1, 1000, 100_000, 1_000_000}, Backends: 100, Packets: 300_000, Rounds: 5, Progress: c.stderr,
	}
	var device string
	var yes bool
	choice := dataplaneChoice{
		families: []string{string(packetcost.IPv4)}, modes: []string{dataplane.ModeIPIP.String()}, traffic: []string{allValues},
		tracking: []string{dataplane.TrackingJustEnough.String(), dataplane.TrackingFull.String()},
	}
	cmd := &cobra.Command{
		Use:   "dataplane",
		Short: "Measure what the balancer costs for each packet",
		Long: `Send packets through the balancer as fast as one processor generates, balances and sinks them, and measure how long
the balancer's program takes for one, by the kernel's own statistics. These cost something themselves: in the same run
the same packets go to a program that does nothing ("empty"), and to one that only encapsulates. NS is what the kernel
says, NET NS is without what the empty program takes, and RATIO is NS of the balancer in multiples of the empty program's.
Figures are medians of all rounds, in which the three take turns; SPREAD is (highest - lowest) / median.

Each combination of the flags is a row. The traffic: ack (segments without data), syn (a flood of SYNs, from as many
clients as --flows says), udp (datagrams without data), mix (IP packets of 40, 576 and 1500 bytes, 7:4:1). Mode nat and UDP
are tracked in full, whatever --tracking says. Every flow passes before anything is measured, and all backends are up.
REMEMBERED is how many entries the flow table has in the end.

With --interface nothing is generated: what comes to an interface of this host from another one is measured, for 192.0.2.10
or 2001:db8::10, port 80, from the flows that --flows names. Each flag names one value then. The programs take turns on
the interface, so the host itself gets nothing by it meanwhile, and "empty" sends every frame back as it came. 198.18.0.0/15
or 2001:db8:2::/48 must be routed to where the balancer's packets may go. --yes says that nobody else needs any of it.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := choice.apply(&options); err != nil {
				return err
			}
			if err := checkDataplaneOptions(options); err != nil {
				return err
			}
			if device == "" && yes {
				return usageError("--yes is for --interface only")
			}
			if device != "" && !yes {
				return usageError("--interface puts programs on %s that send back, or to 198.18.0.0/15, all that comes: --yes says that nobody needs it meanwhile", device)
			}
			report, err := measureDataplane(cmd.Context(), options, device)
			return c.showBench(cmd, &report, err)
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&options.Flows, "flows", options.Flows, "a `NUMBER` of flows or several")
	flags.StringSliceVar(&choice.traffic, "traffic", choice.traffic, "a `KIND` of packets or several: ack, syn, udp, mix; all")
	flags.StringSliceVar(&choice.modes, "mode", choice.modes, "a `MODE` or several: nat, l2, ipip, gue; all")
	flags.StringSliceVar(&choice.families, "family", choice.families, "an IP version (`FAMILY`) or several: ipv4, ipv6; all")
	flags.StringSliceVar(&choice.tracking, "tracking", choice.tracking, "a `KIND` of tracking or several: full, just-enough, none; all")
	flags.IntVar(&options.Backends, "backends", options.Backends, "`NUMBER` of backends")
	flags.IntVar(&options.Packets, "packets", options.Packets, "`NUMBER` of packets of each measurement")
	flags.IntVar(&options.Rounds, "rounds", options.Rounds, "`NUMBER` of rounds")
	flags.IntVar(&options.Rate, "pps", 0, "hold a rate, in packets per second (`NUMBER`), instead of going as fast as possible")
	flags.StringVar(&device, "interface", "", "measure what comes to an `INTERFACE` of this host")
	flags.BoolVar(&yes, "yes", false, "with --interface: nobody else needs it")
	completeFlag(cmd, "interface")
	for name, known := range dataplaneValues {
		completeFlag(cmd, name, append(known, allValues)...)
	}
	return outputFlag(cmd, formatTable, formatJSON, formatMarkdown)
}

// dataplaneValues are the known values of flags.
var dataplaneValues = map[string][]string{
	"family":   {string(packetcost.IPv4), string(packetcost.IPv6)},
	"mode":     {"nat", "l2", "ipip", "gue"},
	"traffic":  {string(generator.ACK), string(generator.SYN), string(generator.UDP), string(generator.Mix)},
	"tracking": {"full", "just-enough", "none"},
}

// apply puts what was chosen into the options.
func (d *dataplaneChoice) apply(o *packetcost.Options) (err error) {
	if o.Families, err = choose("family", d.families, packetcost.Families); err != nil {
		return err
	}
	if o.Traffic, err = choose("traffic", d.traffic, generator.Kinds); err != nil {
		return err
	}
	if o.Modes, err = chooseNamed[dataplane.Mode]("mode", d.modes); err != nil {
		return err
	}
	o.Trackings, err = chooseNamed[dataplane.Tracking]("tracking", d.tracking)
	return err
}

// chooseNamed is choose for values that are known by names.
func chooseNamed[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](flag string, chosen []string) ([]T, error) {
	names, err := choose(flag, chosen, dataplaneValues[flag])
	if err != nil {
		return nil, err
	}
	values := make([]T, len(names))
	for i, name := range names {
		if err := P(&values[i]).UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// minPackets is how many packets say something at all.
const minPackets = 1000

func checkDataplaneOptions(o packetcost.Options) error {
	for _, flows := range o.Flows {
		if flows < 1 || flows > generator.MaxFlows {
			return invalidInput("--flows: %d is not in 1 to %d", flows, generator.MaxFlows)
		}
	}
	switch {
	case o.Backends < 1 || o.Backends > packetcost.MaxBackends:
		return invalidInput("--backends: %d is not in 1 to %d", o.Backends, packetcost.MaxBackends)
	case o.Packets < minPackets:
		return invalidInput("--packets: %d is less than %d", o.Packets, minPackets)
	case o.Rounds < 1:
		return invalidInput("--rounds: %d is less than 1", o.Rounds)
	case o.Rate != 0 && o.Rate < generator.MinRate:
		return invalidInput("--pps: %d is less than %d", o.Rate, generator.MinRate)
	}
	return nil
}

// measureDataplane measures on an interface of this host, or without one in namespaces.
func measureDataplane(ctx context.Context, o packetcost.Options, device string) (packetcost.Report, error) {
	if device == "" {
		return packetcost.Run(ctx, o)
	}
	report, err := packetcost.RunOn(ctx, o, device)
	if errors.Is(err, packetcost.ErrManyCases) {
		err = invalidInput("--interface: %v", err)
	}
	return report, err
}
