// Command bench measures Sluice beside the kernel's IPVS and beside plain forwarding, under the same load of the kernel's
// packet generator, in namespaces of the host that it runs on. It needs a kernel with pktgen and IPVS: `make
// bench-vm` runs it in a virtual machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// options are the command line.
type options struct {
	sluice, pktgen string // programs
	flows          []int
	rounds         int
	duration       time.Duration // of each measurement
}

func main() {
	o := options{}
	pflag.StringVar(&o.sluice, "sluice", "./sluice", "the `PROGRAM` sluice")
	pflag.StringVar(&o.pktgen, "pktgen", "./pktgen", "the `PROGRAM` of test/pktgen")
	pflag.IntSliceVar(&o.flows, "flows", []int{1, 10_000}, "`NUMBERS` of flows")
	pflag.IntVar(&o.rounds, "rounds", 5, "`NUMBER` of rounds, in each of which every contender has its turn")
	pflag.DurationVar(&o.duration, "duration", 5*time.Second, "of each measurement")
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run builds everything up, measures in rounds, and prints the table.
func run(ctx context.Context, o options) (err error) {
	s, err := newSite()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, start := range []func(context.Context, *site, options) error{startForwarding, startIPVS, startSluice} {
		if err := start(ctx, s, o); err != nil {
			return err
		}
	}
	var t table
	for _, flows := range o.flows {
		for _, c := range s.contenders { // its flows are known, neighbours too
			if _, err := s.measure(ctx, c, o, flows, time.Second); err != nil {
				return err
			}
		}
		for round := range o.rounds {
			fmt.Fprintf(os.Stderr, "bench: %d flows, round %d of %d\n", flows, round+1, o.rounds)
			for _, c := range s.contenders {
				m, err := s.measure(ctx, c, o, flows, o.duration)
				if err != nil {
					return err
				}
				t.add(c.name, flows, m)
			}
		}
	}
	return t.write(os.Stdout)
}

// measurement is one contender under load once.
type measurement struct {
	arrived float64 // packets per second at the backends
	lost    float64 // share of the packets sent, 0..1
}

// measure has pktgen send for so long, and counts what arrives.
func (s *site) measure(ctx context.Context, c contender, o options, flows int, duration time.Duration) (m measurement, err error) {
	before, err := c.sink.read()
	if err != nil {
		return m, err
	}
	p, err := s.client.Command(ctx, o.pktgen, "--destination", c.target, "--flows", fmt.Sprint(flows), "--duration", duration.String(), "-o", "json")
	if err != nil {
		return m, err
	}
	if err := p.Wait(); err != nil {
		return m, fmt.Errorf("%s: %w: %s", c.name, err, strings.TrimSpace(p.Output()))
	}
	var sent struct {
		Sent    uint64
		Seconds float64
	}
	if err := json.Unmarshal([]byte(p.Output()), &sent); err != nil {
		return m, fmt.Errorf("%s: reading what pktgen says: %w", c.name, err)
	}
	after, err := c.sink.read()
	if err != nil {
		return m, err
	}
	var arrived, other uint64
	for protocol, n := range after {
		if n -= before[protocol]; protocol == c.protocol {
			arrived = n
		} else {
			other += n
		}
	}
	if arrived == 0 || other > 0 {
		return m, fmt.Errorf("%s: of %d packets %d arrived at the backends as they should, and %d otherwise", c.name, sent.Sent, arrived, other)
	}
	return measurement{float64(arrived) / sent.Seconds, max(0, 1-float64(arrived)/float64(sent.Sent))}, nil
}
