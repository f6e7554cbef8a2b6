package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
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
	lab      *lab.Lab
	outside  *lab.Host // the client
	backends []*backend
	daemon   *lab.Process
	client   *control.Client
	folder   string // configuration, store and socket
	pins     string
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
	s := &site{pins: fmt.Sprintf("%s%d", pinPrefix, os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := removeLeftovers(); err != nil {
		return nil, err
	}
	if s.folder, err = os.MkdirTemp("", fmt.Sprintf("%s-%d-", labPrefix, os.Getpid())); err != nil {
		return nil, err
	}
	if s.lab, err = lab.New(labPrefix); err != nil {
		return nil, err
	}
	balancer, err := s.connect()
	if err != nil {
		return nil, err
	}
	for _, b := range s.backends {
		if b.process, err = b.host.Command(ctx, executable, BackendCommand, b.name); err != nil {
			return nil, err
		}
	}
	if err := s.startDaemon(ctx, balancer, executable); err != nil {
		return nil, err
	}
	return s, s.waitUntilReady(ctx)
}

// connect makes the hosts and returns the balancer's.
func (s *site) connect() (*lab.Host, error) {
	var err error
	if s.outside, err = s.lab.Host("client"); err != nil {
		return nil, err
	}
	balancer, err := s.lab.Host("balancer")
	if err != nil {
		return nil, err
	}
	ethernet, err := s.lab.Switch("switch")
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		s.lab.Connect(s.outside, uplink, balancer, "clients", lab.LinkOptions{}),
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
	if b.host, err = s.lab.Host(b.name); err != nil {
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

// startDaemon starts `sluice run` on the balancer, as its own configuration file says.
func (s *site) startDaemon(ctx context.Context, balancer *lab.Host, executable string) error {
	socket, file := filepath.Join(s.folder, "sluice.sock"), filepath.Join(s.folder, "sluice.yaml")
	text := fmt.Sprintf(`interfaces: [clients, backends]
pin-path: %s
store: %s
api: {socket: %s}
metrics: {address: ""}
limits: {services: 64, backends: 1024, slots: 1048576, flows: 65536}
`, s.pins, filepath.Join(s.folder, "sluice.db"), socket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	daemon, err := balancer.Command(ctx, executable, "run", "--config", file)
	if err != nil {
		return err
	}
	s.daemon, s.client = daemon, control.NewClient(socket)
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
				Probe: &control.Probe{Type: control.ProbeTCP, Port: httpPort},
			}
			for _, b := range s.backends {
				service.Backends = append(service.Backends, control.Backend{Name: b.name, Address: b.address[i]})
			}
			services = append(services, service)
		}
	}
	return services
}

// waitUntilReady configures the daemon as soon as it answers and waits until every backend is in use.
func (s *site) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	var problem error
	for applied := false; ; {
		if !applied {
			_, problem = s.client.Apply(ctx, control.ApplyRequest{Services: s.services()})
			applied = problem == nil
		} else if problem = s.notReady(ctx); problem == nil {
			return nil
		}
		select {
		case <-s.daemon.Done():
			return fmt.Errorf("the daemon ended: %s", lastLine(s.daemon.Output()))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("not ready within %v: %w", readyWithin, problem)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// notReady returns what is missing until all backends serve, or nil.
func (s *site) notReady(ctx context.Context) error {
	status, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
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
		if _, err := s.client.UpdateBackend(ctx, service.Name, b.name, control.BackendPatch{State: &draining}); err != nil {
			return err
		}
	}
	return nil
}

// close removes everything that was made until now.
func (s *site) close() error {
	var errs []error
	if s.daemon != nil {
		s.daemon.Signal(syscall.SIGTERM)
		select {
		case <-s.daemon.Done():
		case <-time.After(3 * time.Second): // the lab kills it
		}
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	errs = append(errs, dataplane.Unload(s.pins))
	if s.folder != "" {
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}

// What the demo makes outside its namespaces is named after it and the number of its process.
const (
	labPrefix = "sluice-demo"
	pinPrefix = "/sys/fs/bpf/" + labPrefix + "-"
)

// Traces returns patterns for the files that a running demo with the process number has, and none after it.
func Traces(pid int) []string {
	return []string{
		fmt.Sprintf("%s%d", pinPrefix, pid),
		fmt.Sprintf("/run/netns/%s-%d-*", labPrefix, pid),
		filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d-*", labPrefix, pid)),
	}
}

// removeLeftovers removes what demos that were killed have left, but for their namespaces: see lab.New.
func removeLeftovers() error {
	for _, prefix := range []string{pinPrefix, filepath.Join(os.TempDir(), labPrefix+"-")} {
		folders, err := filepath.Glob(prefix + "*")
		if err != nil {
			return err
		}
		for _, folder := range folders {
			number, _, _ := strings.Cut(strings.TrimPrefix(folder, prefix), "-")
			pid, err := strconv.Atoi(number)
			if err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				continue
			}
			// For pins it detaches the programs too.
			if err := dataplane.Unload(folder); err != nil {
				return err
			}
		}
	}
	return nil
}
