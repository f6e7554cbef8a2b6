// Package packetcost is what `sluice bench dataplane` measures: how long the balancer's program takes for a packet, and
// how many packets a processor generates, balances and sinks in a second, beside two floors: a program that does nothing
// and one that only encapsulates. The real dataplane is in a network namespace, and a generator in the kernel sends it
// packets through a veth pair.
package packetcost

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run.
type Options struct {
	Families  []Family
	Modes     []dataplane.Mode
	Traffic   []generator.Kind
	Trackings []dataplane.Tracking // mode nat and UDP are tracked in full, whatever is here
	Flows     []int                // each 1..generator.MaxFlows
	Backends  int                  // of the service, 1..MaxBackends
	Packets   int                  // of each measurement
	Rounds    int                  // of measurements in turns, from which medians are taken
	Rate      int                  // packets per second, 0: as many as there can be
	Progress  io.Writer            // is told what happens
}

// Family is the IP version of clients, service and backends.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Families are all of them.
var Families = []Family{IPv4, IPv6}

// Case is what a row of the report is about.
type Case struct {
	Family   Family             `json:"family"`
	Mode     dataplane.Mode     `json:"mode"`
	Traffic  generator.Kind     `json:"traffic"`
	Tracking dataplane.Tracking `json:"tracking"` // in force
	Flows    int                `json:"flows"`    // of a SYN flood: clients
}

// String returns for example "ipv4 ipip ack just-enough, 1000 flows".
func (c Case) String() string {
	return fmt.Sprintf("%s %s %s %s, %d flows", c.Family, c.Mode, c.Traffic, c.Tracking, c.Flows)
}

// cases are all combinations, but for those that differ only in a tracking that is not in force.
func (o *Options) cases() []Case {
	var cases []Case
	for _, family := range o.Families {
		for _, mode := range o.Modes {
			for _, traffic := range o.Traffic {
				for _, tracking := range o.Trackings {
					if mode == dataplane.ModeNAT || traffic == generator.UDP {
						tracking = dataplane.TrackingFull
					}
					for _, flows := range o.Flows {
						c := Case{family, mode, traffic, tracking, flows}
						if !slices.Contains(cases, c) {
							cases = append(cases, c)
						}
					}
				}
			}
		}
	}
	return cases
}

// What a machine of 2026 takes, about: the time to load the balancer, and packets per second with all that is done for
// them.
const (
	usualLoad = 3 * time.Second
	usualRate = 1.5e6
)

// expect is about how long the cases take.
func (o *Options) expect(cases []Case) time.Duration {
	rate := usualRate
	if o.Rate > 0 {
		rate = min(rate, float64(o.Rate))
	}
	var total time.Duration
	for _, c := range cases {
		measured := float64(2*contenders*o.Rounds*o.Packets) / rate
		warmed := float64(2*c.Flows) / usualRate
		total += usualLoad + time.Duration((measured+warmed)*float64(time.Second))
	}
	return total
}

// Run measures all cases and returns the report. All that it makes is gone when it returns, also when ctx ends before.
// It needs root.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := stage.CheckPrivileges("the benchmark", "sluice bench dataplane"); err != nil {
		return Report{}, err
	}
	s, err := newSite()
	if err != nil {
		return Report{}, err
	}
	defer stage.Remove(&err, s.close)
	cases := o.cases()
	fmt.Fprintf(o.Progress, "%d rows, which take about %v\n", len(cases), o.expect(cases).Round(time.Second))
	var outcomes []outcome
	for i, c := range cases {
		result, err := s.measure(ctx, o, c)
		if err != nil {
			return Report{}, stage.CauseOf(ctx, fmt.Errorf("%s: %w", c, err))
		}
		fmt.Fprintf(o.Progress, "%3d/%d  %s: %s\n", i+1, len(cases), c, result)
		outcomes = append(outcomes, result)
	}
	return newReport(outcomes), nil
}

// Traces returns patterns for the files that a run of the process with the number pid has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }
