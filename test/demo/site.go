package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

// The addresses are those for documentation (RFC 5737 and RFC 3849).
//
//	client               balancer                        switch    backends
//	eth0 ------- clients          backends ------------- |    | --- eth0
//	198.51.100.2         .1       203.0.113.1                       203.0.113.11 ... 14
//	2001:db8:1::2        ::1      2001:db8:2::1                     2001:db8:2::11 ... 14
//
// The services' own addresses are on no interface: the client has a route to them.
const (
	backendCount = 4
	uplink       = "eth0" // of the client and the backends
	readyWithin  = 15 * time.Second
)

// families are the two address families, in the order that everything has two of.
var families = []struct {
	name                         string
	service, serviceNet, gateway string // of the client's route
	backendNet                   string
	bits                         int // of backendNet
}{
	{"IPv4", "192.0.2.10", "192.0.2.0/24", "198.51.100.1", "203.0.113.", 24},
	{"IPv6", "2001:db8:f::10", "2001:db8:f::/64", "2001:db8:1::1", "2001:db8:2::", 64},
}

// backendName names the backends from 0 on: b1, b2, ...
func backendName(n int) string { return "b" + strconv.Itoa(n+1) }

// Endpoints of a backend, which are those of the services too.
const (
	httpPort = 80
	echoPort = 7
	udpPort  = 53
)

// site is all that is built up for the demo.
type site struct {
	*stage.Stage
	outside  *lab.Host // the client
	backends []*backend
}

// backend is one of the four.
type backend struct {
	name    string
	host    *lab.Host
	process *lab.Process
	address []netip.Addr // by family
}

// newSite builds everything up, until the services answer.
func newSite(ctx context.Context, executable string) (_ *site, err error) {
	s := new(site)
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	balancer, err := s.connect()
	if err != nil {
		return nil, err
	}
	for _, b := range s.backends {
		if b.process, err = b.host.Command(ctx, executable, BackendCommand, b.name); err != nil {
			return nil, err
		}
	}
	if err := s.StartDaemon(ctx, balancer, executable, "clients,backends"); err != nil {
		return nil, err
	}
	return s, s.Apply(ctx, s.services(), readyWithin, notReady)
}

// connect makes the hosts and returns the balancer's.
func (s *site) connect() (*lab.Host, error) {
	var err error
	if s.outside, err = s.Host("client"); err != nil {
		return nil, err
	}
	balancer, err := s.Host("balancer")
	if err != nil {
		return nil, err
	}
	ethernet, err := s.Switch("switch")
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		s.Connect(s.outside, uplink, balancer, "clients", lab.LinkOptions{}),
		ethernet.Join(balancer, "backends", lab.LinkOptions{}),
		s.outside.Addr(uplink, "198.51.100.2/24", "2001:db8:1::2/64"),
		balancer.Addr("clients", "198.51.100.1/24", "2001:db8:1::1/64"),
		balancer.Addr("backends", "203.0.113.1/24", "2001:db8:2::1/64"),
	)
	for _, f := range families {
		err = errors.Join(err, s.outside.Route(f.serviceNet, f.gateway))
	}
	for n := range backendCount {
		err = errors.Join(err, s.addBackend(ethernet, n))
	}
	return balancer, err
}

func (s *site) addBackend(ethernet *lab.Switch, n int) error {
	b := &backend{name: backendName(n)}
	var err error
	if b.host, err = s.Host(b.name); err != nil {
		return err
	}
	if err := ethernet.Join(b.host, uplink, lab.LinkOptions{}); err != nil {
		return err
	}
	for _, f := range families {
		address := netip.MustParseAddr(f.backendNet + strconv.Itoa(11+n))
		if err := b.host.Addr(uplink, netip.PrefixFrom(address, f.bits).String()); err != nil {
			return err
		}
		b.address = append(b.address, address)
	}
	s.backends = append(s.backends, b)
	return nil
}

// BackendCommand is the command of the sluice program that calls RunBackend with its argument.
const BackendCommand = "demo-backend"

// RunBackend is a backend: it serves HTTP, TCP and UDP in the network namespace that it is in until ctx ends.
func RunBackend(ctx context.Context, name string) error {
	server, err := traffic.Serve(traffic.Here{}, name, traffic.Endpoints{
		HTTP: "[::]:" + strconv.Itoa(httpPort),
		TCP:  "[::]:" + strconv.Itoa(echoPort),
		UDP:  "[::]:" + strconv.Itoa(udpPort),
	})
	if err != nil {
		return err
	}
	defer server.Close()
	<-ctx.Done()
	return nil
}

// services are three on each family: HTTP, TCP and UDP, each with all backends.
func (s *site) services() []control.Service {
	var services []control.Service
	for i, f := range families {
		for _, port := range []struct {
			name     string
			number   uint16
			protocol dataplane.Protocol
		}{
			{"http", httpPort, dataplane.ProtocolTCP},
			{"echo", echoPort, dataplane.ProtocolTCP},
			{"udp", udpPort, dataplane.ProtocolUDP},
		} {
			service := control.Service{
				Name:     port.name + "-" + strings.ToLower(f.name),
				Address:  netip.MustParseAddr(f.service),
				Port:     port.number,
				Protocol: port.protocol,
				// A backend that does not answer HTTP is not asked by UDP either.
				Probe: &control.Probe{Spec: probe.Spec{Kind: probe.TCP}, Port: httpPort},
			}
			for _, b := range s.backends {
				service.Backends = append(service.Backends, control.Backend{Name: b.name, Address: b.address[i]})
			}
			services = append(services, service)
		}
	}
	return services
}

// notReady returns what is missing until all backends serve, or nil.
func notReady(status control.Status) error {
	for _, service := range status.Services {
		if service.State != control.ServiceOK {
			return fmt.Errorf("service %s is %s: %s", service.Name, service.State, service.Error)
		}
		for _, b := range service.Backends {
			if b.State != control.StateUp || !b.NextHop.Resolved || b.Share == 0 {
				return fmt.Errorf("backend %s of %s is %s: %s", b.Name, service.Name, b.State, b.Cause+b.NextHop.Reason)
			}
		}
	}
	return nil
}

// drain has a backend finish what it has, in all services.
func (s *site) drain(ctx context.Context, b *backend) error {
	draining := control.StateDraining
	for _, service := range s.services() {
		if _, err := s.Client.UpdateBackend(ctx, service.Name, b.name, control.BackendPatch{State: &draining}); err != nil {
			return err
		}
	}
	return nil
}

// labPrefix begins the names of what the demo makes outside its namespaces.
const labPrefix = "sluice-demo"

// Traces returns patterns for the files that a running demo with the process number has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }
