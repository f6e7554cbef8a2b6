package p2c

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

const (
	slowName    = "b1" // the backend that is slow
	readyWithin = time.Minute
	// lateAfter is from when on a request is late: half of a usual answer. lateAllowed is the part of the requests that
	// may be, as many as the 99th percentile leaves out.
	lateAfter   = serviceTime / 2
	lateAllowed = 0.01
)

// round is what was measured in one.
type round struct {
	requests   []request
	remembered int   // flows in the table at the end
	left       int   // flows that count as in progress at the end, though all are over
	unequal    error // says how weights differed at the end
}

// round measures one policy on a site of its own, whose flow table is empty. Rounds with the same number have the same
// arrivals, from the same ports.
func (o Options) round(ctx context.Context, policy dataplane.Policy, number uint64) (_ round, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := stage.New(labPrefix)
	if err != nil {
		return round{}, err
	}
	defer stage.Remove(&err, s.Close)
	network, err := s.Network(o.Backends)
	if err != nil {
		return round{}, err
	}
	servers, err := o.serve(s, network, number)
	defer func() {
		for _, server := range servers {
			server.Close()
		}
	}()
	if err != nil {
		return round{}, err
	}
	if err := s.StartDaemon(ctx, network.Balancer, o.Executable, stage.Interfaces); err != nil {
		return round{}, stage.CauseOf(ctx, err)
	}
	go func() {
		<-s.Daemon.Done()
		cancel(stage.Ended(s.Daemon))
	}()
	r, err := o.measure(ctx, s, network, policy, number)
	if err != nil {
		return round{}, stage.CauseOf(ctx, err)
	}
	return r, nil
}

// serve starts the server of every backend.
func (o Options) serve(s *stage.Stage, network *stage.Network, number uint64) ([]*traffic.Server, error) {
	var servers []*traffic.Server
	for i, b := range network.Backends {
		if err := s.Receive(b.Host, o.Mode); err != nil {
			return servers, err
		}
		w := &worker{Listener: b, mean: serviceTime, random: rand.New(rand.NewPCG(number, uint64(i+1)))}
		if b.Name() == slowName {
			w.mean = time.Duration(o.Slow * float64(serviceTime))
		}
		// Of all addresses: of its own, which probes may ask, and in some modes of the service's.
		server, err := traffic.Serve(w, b.Name(), traffic.Endpoints{HTTP: "0.0.0.0:" + stage.ServicePort})
		if err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// measure configures the daemon and sends the requests.
func (o Options) measure(ctx context.Context, s *stage.Stage, network *stage.Network, policy dataplane.Policy, number uint64) (round, error) {
	if err := s.Apply(ctx, []control.Service{o.service(network, policy)}, readyWithin, stage.Unequal); err != nil {
		return round{}, err
	}
	random := rand.New(rand.NewPCG(number, 0))
	requests, err := sendAll(ctx, network.Client, random.IntN(ports), arrivals(o.Rate, o.Duration, random))
	if err != nil {
		return round{}, err
	}
	r := round{requests: requests}
	// The daemon itself knows that only once a minute.
	if r.remembered, err = stage.CountFlows(s.Pins, false); err != nil {
		return round{}, err
	}
	status, err := s.Client.Status(ctx)
	r.unequal = stage.Unequal(status)
	for _, service := range status.Services {
		for _, b := range service.Backends {
			r.left += b.Active
		}
	}
	return r, err
}

// service is what is balanced. With Maglev every flow is remembered, which shows that they are counted rightly.
func (o Options) service(network *stage.Network, policy dataplane.Policy) control.Service {
	at := netip.MustParseAddrPort(stage.Target)
	service := control.Service{
		Name:      stage.ServiceName,
		Address:   at.Addr(),
		Port:      at.Port(),
		Protocol:  dataplane.ProtocolTCP,
		Mode:      &o.Mode,
		Probe:     &control.Probe{Spec: probe.Spec{Kind: o.Probe}},
		Selection: control.Selection{Policy: policy},
	}
	if policy == dataplane.PolicyMaglev {
		service.Tracking = dataplane.TrackingFull
	}
	for _, b := range network.Backends {
		service.Backends = append(service.Backends, control.Backend{Name: b.Name(), Address: netip.MustParseAddr(b.Address)})
	}
	return service
}

// late counts the requests that began late.
func (r round) late() int {
	count := 0
	for _, each := range r.requests {
		if each.late > lateAfter {
			count++
		}
	}
	return count
}

// failures are the requests without a good answer.
func (r round) failures() []request {
	return slices.DeleteFunc(slices.Clone(r.requests), func(each request) bool { return each.err == nil })
}

// took returns the times of all requests, sorted; one that failed counts as late as it can be.
func (r round) took() []time.Duration {
	took := make([]time.Duration, len(r.requests))
	for i, each := range r.requests {
		took[i] = each.took
		if each.err != nil {
			took[i] = requestTimeout
		}
	}
	slices.Sort(took)
	return took
}

// labPrefix begins the names of what the benchmark makes outside its namespaces.
const labPrefix = "sluice-p2c"

// Traces returns patterns for the files that a run of the process with the number pid has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }
