// Package throughput is what `sluice bench http` measures: how many new connections and requests a second get through
// Sluice, through what else forwards them, and through nothing but a router, and what a request costs. Real HTTP
// clients and servers, and each contender as it is deployed, are in network namespaces of their own.
package throughput

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
)

// Contender is what is between the client and the backends.
type Contender string

// The contenders. All but Forwarding spread connections over four backends.
const (
	Forwarding Contender = "forwarding" // the kernel routes to one backend: the limit
	NFTables   Contender = "nftables"   // DNAT
	HAProxy    Contender = "haproxy"    // in TCP mode
	SluiceNAT  Contender = "sluice-nat"
	SluiceL2   Contender = "sluice-l2"
	SluiceIPIP Contender = "sluice-ipip"
	SluiceGUE  Contender = "sluice-gue"
)

// Contenders are all of them, in the order of the table.
var Contenders = []Contender{Forwarding, NFTables, HAProxy, SluiceNAT, SluiceL2, SluiceIPIP, SluiceGUE}

// mode is how the backends receive packets.
func (c Contender) mode() dataplane.Mode {
	switch c {
	case SluiceL2:
		return dataplane.ModeL2
	case SluiceIPIP:
		return dataplane.ModeIPIP
	case SluiceGUE:
		return dataplane.ModeGUE
	}
	return dataplane.ModeNAT
}

// Workload is what the client does.
type Workload string

// The workloads.
const (
	Connections Workload = "connections" // a request on each connection
	KeepAlive   Workload = "keepalive"   // requests on connections that stay
	Bulk        Workload = "bulk"        // large answers, on connections that stay
)

// Workloads are all of them, in the order that they are measured.
var Workloads = []Workload{Connections, KeepAlive, Bulk}

// load is what makes a workload.
type load struct {
	connections int  // at the same time, each with one request at a time
	size        int  // of an answer's body, bytes
	last        bool // every request is the last one of its connection
}

var workloads = map[Workload]load{
	Connections: {connections: 64, size: 128, last: true},
	KeepAlive:   {connections: 64, size: 128},
	Bulk:        {connections: 8, size: 1 << 20},
}

// Options of Run.
type Options struct {
	Executable string // the sluice program, which is started as daemon, as server and as client
	Contenders []Contender
	Workloads  []Workload
	Rounds     int           // in each of which every contender has its turn
	Duration   time.Duration // of each measurement
	XDPMode    dataplane.XDPMode
	Threaded   bool      // threads of the kernel receive what comes in to the balancer: threaded NAPI
	Progress   io.Writer // is told what happens
}

// setUp is about how long it takes until a contender can be measured.
const setUp = 4 * time.Second

// Run measures and returns what was measured. All that it makes is gone when it returns, also when ctx ends before. It
// needs root.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := stage.CheckPrivileges("the benchmark", "sluice bench http"); err != nil {
		return Report{}, err
	}
	if err := o.checkInstalled(stage.FindProgram); err != nil {
		return Report{}, err
	}
	turns := o.Rounds * len(o.Contenders)
	each := setUp + time.Duration(len(o.Workloads))*(o.Duration+warmUp)
	fmt.Fprintf(o.Progress, "%d rounds, which take about %v\n", o.Rounds, (time.Duration(turns) * each).Round(time.Second))
	var rest []float64
	samples := make(samples)
	for round := range o.Rounds {
		for i := range o.Contenders {
			c := o.Contenders[(round+i)%len(o.Contenders)] // nobody always follows the same one
			idle, err := o.turn(ctx, round, c, samples)
			if err != nil {
				return Report{}, err
			}
			rest = append(rest, idle)
		}
	}
	return summarize(o, rest, samples), nil
}

// checkInstalled says what is missing, by find, before anything is measured.
func (o Options) checkInstalled(find func(program string) string) error {
	for _, needed := range []struct {
		contender     Contender
		program, from string
	}{{NFTables, "nft", "nftables"}, {HAProxy, "haproxy", "haproxy"}} {
		if !slices.Contains(o.Contenders, needed.contender) || find(needed.program) != "" {
			continue
		}
		var others []string
		for _, c := range o.Contenders {
			if c != needed.contender {
				others = append(others, string(c))
			}
		}
		return fmt.Errorf("%s is not installed: apt-get install %s, or leave it out with --contenders %s",
			needed.program, needed.from, strings.Join(others, ","))
	}
	return nil
}

// turn measures a contender once, and returns what part of the processors was busy before.
func (o Options) turn(ctx context.Context, round int, c Contender, samples samples) (rest float64, err error) {
	s, err := newSite(ctx, o, c)
	if err != nil {
		return 0, stage.CauseOf(ctx, err)
	}
	defer stage.Remove(&err, s.Close)
	for _, w := range o.Workloads {
		sample, err := s.measure(ctx, w, o.Duration)
		if err != nil {
			return 0, fmt.Errorf("%s, round %d, %s: %w", c, round+1, w, err)
		}
		fmt.Fprintf(o.Progress, "%d/%d  %-12s %-12s %s\n", round+1, o.Rounds, c, w, sample.describe(w))
		samples.add(c, w, sample)
	}
	return s.rest, nil
}
