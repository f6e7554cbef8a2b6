package controlplane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

// The backends are behind a router, as in a large network: each is a next hop of its own to the daemon, and all depend on
// one neighbour. That router has every address of them, and one server that listens on all. Services' addresses are those
// for benchmarks (RFC 2544), backends' those of RFC 6598; the link has those for documentation (RFC 5737).
//
//	balancer                      backends
//	backends -------------------- eth0
//	203.0.113.1      203.0.113.2, and all of 100.64.0.0/10
var (
	firstService = netip.MustParseAddr("198.18.0.1")
	backendNet   = netip.MustParsePrefix("100.64.0.0/10")
)

const (
	servicePort = 80

	// Names of what the benchmark makes outside its namespaces begin so.
	labPrefix = "sluice-control"
)

// Traces returns patterns for the files that a run of the process with the number pid has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }

// site is one daemon and the backends of all its services.
type site struct {
	*stage.Stage
	options *Options
	probes  Probes
	host    *lab.Host       // the daemon's
	server  *traffic.Server // answers probes; nil without
	tables  *tables         // the daemon's, in the kernel
}

func newSite(o *Options, probes Probes) (s *site, err error) {
	s = &site{options: o, probes: probes}
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.Limits = o.limits()
	if s.host, err = s.Host("balancer"); err != nil {
		return nil, err
	}
	backends, err := s.Host("backends")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		s.Connect(s.host, "backends", backends, "eth0", lab.LinkOptions{}),
		s.host.Addr("backends", "203.0.113.1/24"),
		backends.Addr("eth0", "203.0.113.2/24"),
		s.host.Route(backendNet.String(), "203.0.113.2"),
		haveAll(backends, backendNet),
	); err != nil {
		return nil, err
	}
	if probes != NoProbes {
		s.server, err = traffic.Serve(backends, "all", traffic.Endpoints{TCP: fmt.Sprintf("0.0.0.0:%d", servicePort)})
	}
	return s, err
}

// haveAll makes every address of a prefix one of the host's own.
func haveAll(h *lab.Host, prefix netip.Prefix) error {
	lo, err := h.Netlink().LinkByName("lo")
	if err != nil {
		return err
	}
	return h.Netlink().RouteAdd(&netlink.Route{
		Dst:       &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
		LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// close removes everything that was made.
func (s *site) close() error {
	if s.server != nil {
		s.server.Close()
	}
	var err error
	if s.tables != nil {
		err = s.tables.close()
	}
	return errors.Join(err, s.Stage.Close())
}

// start starts a daemon and waits until it serves what its store holds.
func (s *site) start(ctx context.Context) error {
	if err := s.StartDaemon(ctx, s.host, s.options.Executable, "backends"); err != nil {
		return err
	}
	return s.Ready(ctx)
}

// restart ends the daemon and starts another one.
func (s *site) restart(ctx context.Context, r *round) error {
	if !s.StopDaemon() {
		return errors.New("the daemon does not end when it is told to")
	}
	before, err := s.tables.all()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.start(ctx); err != nil {
		return err
	}
	r.adopt = time.Since(began)
	after, err := s.tables.all()
	if err != nil {
		return err
	}
	for i := range after {
		if after[i] != before[i] {
			r.rebuilt++
		}
	}
	return nil
}

// services is the desired state.
func (s *site) services() []control.Service {
	services := make([]control.Service, s.options.Services)
	for i := range services {
		service := control.Service{Name: serviceName(i), Address: serviceAddress(i), Port: servicePort, Protocol: dataplane.ProtocolTCP}
		if s.probes == NoProbes {
			service.Probe = &control.Probe{Spec: probe.Spec{Kind: control.ProbeNone}}
		}
		for n := range s.options.Backends {
			service.Backends = append(service.Backends, control.Backend{Address: s.backendAddress(i, n)})
		}
		services[i] = service
	}
	return services
}

func serviceName(i int) string { return fmt.Sprintf("service-%d", i+1) }

func serviceAddress(i int) netip.Addr { return plus(firstService, i) }

// backendAddress is that of a backend of a service.
func (s *site) backendAddress(i, n int) netip.Addr {
	return plus(backendNet.Addr(), 1+i*s.options.Backends+n)
}

// spare is the address of a backend that no service has.
func (s *site) spare() netip.Addr { return s.backendAddress(s.options.Services, 0) }

// plus returns the address that comes so many after another one of IPv4.
func plus(a netip.Addr, n int) netip.Addr {
	bytes := a.As4()
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(bytes[:])+uint32(n))
	return netip.AddrFrom4(bytes)
}

// apply makes all services at once.
func (s *site) apply(ctx context.Context, r *round) error {
	services := s.services()
	began := time.Now()
	if _, err := s.Client.Apply(ctx, control.ApplyRequest{Services: services}); err != nil {
		return err
	}
	r.apply = time.Since(began)
	var err error
	if s.tables, err = openTables(s.Pins); err != nil {
		return err
	}
	words, err := s.tables.all()
	for _, word := range words {
		if word != 0 {
			r.switched++
		}
	}
	return err
}

// rest leaves the daemon alone for a while, and returns what it holds then, and the share of a processor that it took.
func (s *site) rest(ctx context.Context) (m memory, share float64, err error) {
	before, err := processorTime(s.Daemon.PID())
	if err != nil {
		return m, 0, err
	}
	began := time.Now()
	if err := stage.Sleep(ctx, settle); err != nil {
		return m, 0, err
	}
	after, err := processorTime(s.Daemon.PID())
	if err != nil {
		return m, 0, err
	}
	share = float64(after-before) / float64(time.Since(began))
	m, err = memoryOf(s.Daemon.PID())
	return m, share, err
}
