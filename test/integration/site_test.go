// Package integration tests the whole of Sluice: the real daemon in network namespaces, with real sockets
// around it.
package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

// binary is the program under test: what SLUICE_BINARY names, or built once.
var binary string

func TestMain(m *testing.M) {
	if pins := os.Getenv(victimPins); pins != "" {
		fmt.Fprintln(os.Stderr, victim(pins))
		os.Exit(1)
	}
	if config := os.Getenv(hastyConfig); config != "" {
		fmt.Fprintln(os.Stderr, hasty(config))
		os.Exit(1)
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if binary = os.Getenv("SLUICE_BINARY"); binary != "" {
		return m.Run()
	}
	folder, err := os.MkdirTemp("", "sluice-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "sluice")
	build := exec.Command("go", "build", "-o", binary, "github.com/sluicelb/sluice/cmd/sluice")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building sluice: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// The addresses of the site. Backend n has 198.51.100.(10+n) and 2001:db8:2::(10+n).
const (
	service4 = "203.0.113.10"
	service6 = "2001:db8:3::10"
	backends = 4
)

// site is a client, the balancer with one interface towards the client and one towards a switch, and backends
// behind that. Backends reach the client through the balancer, as they would through a router.
type site struct {
	lab              *lab.Lab
	client, balancer *lab.Host
	backends         []*lab.Host
	servers          []*traffic.Server
	daemon           *lab.Process
	config, pins     string
	api              *control.Client
}

// Its MTU towards the backends has room for the outer header of packets that clients send at full size.
func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteWithMTU(t, 1600)
}

// newSiteWithMTU has that MTU between the balancer and the backends.
func newSiteWithMTU(t *testing.T, mtu int) *site {
	t.Helper()
	s := newNetwork(t, lab.LinkOptions{MTU: mtu}, backends)
	s.startDaemon(t)
	return s
}

// newNetwork makes a site without a daemon, with so many backends. The options are of the links between the balancer and the backends.
func newNetwork(t *testing.T, links lab.LinkOptions, backends int) *site {
	t.Helper()
	l := lab.ForTest(t)
	s := &site{
		lab: l, client: host(t, l, "client"), balancer: host(t, l, "balancer"), servers: make([]*traffic.Server, backends),
	}
	network, err := l.Switch("switch")
	must(t, err)
	must(t, errors.Join(
		l.Connect(s.client, "eth0", s.balancer, "clients", lab.LinkOptions{}),
		network.Join(s.balancer, "servers", links),
		s.client.Addr("eth0", "192.0.2.2/24", "2001:db8:1::2/64"),
		s.client.Route("0.0.0.0/0", "192.0.2.1"),
		s.client.Route("::/0", "2001:db8:1::1"),
		s.balancer.Addr("clients", "192.0.2.1/24", "2001:db8:1::1/64"),
		s.balancer.Addr("servers", "198.51.100.1/24", "2001:db8:2::1/64"),
		s.balancer.Forward(),
	))
	for n := range backends {
		b := host(t, l, fmt.Sprintf("backend%d", n))
		must(t, errors.Join(
			network.Join(b, "eth0", links),
			b.Addr("eth0", backend4(n).String()+"/24", backend6(n).String()+"/64"),
			b.Route("0.0.0.0/0", "198.51.100.1"),
			b.Route("::/0", "2001:db8:2::1"),
			b.Sysctl("net.ipv4.conf.all.arp_ignore", "1"),
		))
		s.backends = append(s.backends, b)
	}
	return s
}

func host(t *testing.T, l *lab.Lab, name string) *lab.Host {
	t.Helper()
	h, err := l.Host(name)
	must(t, err)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func backend4(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + n)}) }
func backend6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%x", 10+n)) }

// startDaemon writes the configuration, once, and starts the daemon.
func (s *site) startDaemon(t *testing.T) {
	t.Helper()
	s.configure(t)
	s.launch(t, nil, binary, "run", "--config", s.config)
}

// configure writes the configuration, once.
func (s *site) configure(t *testing.T) {
	t.Helper()
	if s.config == "" {
		folder := t.TempDir()
		s.pins = fmt.Sprintf("/sys/fs/bpf/sluice-integration-%d-%d", os.Getpid(), time.Now().UnixNano())
		t.Cleanup(func() { must(t, dataplane.Unload(s.pins)) })
		s.config = filepath.Join(folder, "sluice.yaml")
		socket := filepath.Join(folder, "sluice.sock")
		s.api = control.NewClient(socket)
		must(t, os.WriteFile(s.config, fmt.Appendf(nil, `
interfaces: [clients, servers]
pin-path: %s
store: %s
api: {socket: %s}
metrics: {address: "127.0.0.1:9433"}
limits: {services: 64, backends: 4096, slots: 1048576, flows: 65536}
`, s.pins, filepath.Join(folder, "sluice.db"), socket), 0o600))
	}
}

// launch starts a daemon by the configuration, and waits until it answers.
func (s *site) launch(t *testing.T, environment []string, command ...string) {
	t.Helper()
	daemon, err := s.balancer.CommandWith(t.Context(), environment, command[0], command[1:]...)
	must(t, err)
	s.daemon = daemon
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon said:\n%s", daemon.Output())
		}
	})
	eventually(t, "a daemon that answers", func() bool {
		select {
		case <-daemon.Done():
			t.Fatalf("the daemon ended: %v\n%s", daemon.Wait(), daemon.Output())
		default:
		}
		_, err := s.api.Status(t.Context())
		return err == nil
	})
}

// eventually waits for what happens in another process, at most 30 seconds: under emulation a program alone takes several to load.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s within 30 s", what)
		}
	}
}

// The ports of the servers.
const portHTTP, portTCP, portUDP = 80, 7, 9

// way is a mode and a pair of families: of the service and, where it may differ, of the backends.
type way struct {
	mode             dataplane.Mode
	service, backend string // "4" or "6"
}

var ways = []way{
	{dataplane.ModeNAT, "4", "4"}, {dataplane.ModeNAT, "6", "6"},
	{dataplane.ModeL2, "4", "4"}, {dataplane.ModeL2, "6", "6"},
	{dataplane.ModeIPIP, "4", "4"}, {dataplane.ModeIPIP, "6", "4"}, {dataplane.ModeIPIP, "4", "6"}, {dataplane.ModeIPIP, "6", "6"},
	{dataplane.ModeGUE, "4", "4"}, {dataplane.ModeGUE, "6", "4"}, {dataplane.ModeGUE, "4", "6"}, {dataplane.ModeGUE, "6", "6"},
}

func (w way) String() string { return fmt.Sprintf("%s %s over %s", w.mode, w.service, w.backend) }

func (w way) serviceAddress() netip.Addr {
	if w.service == "4" {
		return netip.MustParseAddr(service4)
	}
	return netip.MustParseAddr(service6)
}

func (w way) backendAddress(n int) netip.Addr {
	if w.backend == "4" {
		return backend4(n)
	}
	return backend6(n)
}

// target is the service's address with a port.
func (w way) target(port uint16) string { return netip.AddrPortFrom(w.serviceAddress(), port).String() }

// serve prepares every backend for a way of traffic, and starts its servers.
func (s *site) serve(t *testing.T, w way) {
	t.Helper()
	s.serveWith(t, w, s.attachDecap)
}

// serveWith is serve with another way to take outer headers off.
func (s *site) serveWith(t *testing.T, w way, decapsulate func(*testing.T, *lab.Host)) {
	t.Helper()
	for n, b := range s.backends {
		if address := w.serverAddress(n); address != w.backendAddress(n) {
			must(t, b.Addr("lo", netip.PrefixFrom(address, address.BitLen()).String()))
		}
		if w.mode.Encapsulates() {
			decapsulate(t, b)
		}
		s.startServer(t, w, n)
	}
}

// serverAddress is where a backend serves: at the service's address where it answers clients directly.
func (w way) serverAddress(n int) netip.Addr {
	if w.mode.DirectReturn() {
		return w.serviceAddress()
	}
	return w.backendAddress(n)
}

// startServer starts the server of a backend, which may have been closed before.
func (s *site) startServer(t *testing.T, w way, n int) {
	t.Helper()
	at := func(port uint16) string { return netip.AddrPortFrom(w.serverAddress(n), port).String() }
	b := s.backends[n]
	server, err := traffic.Serve(b, b.Name(), traffic.Endpoints{HTTP: at(portHTTP), TCP: at(portTCP), UDP: at(portUDP)})
	must(t, err)
	t.Cleanup(server.Close)
	s.servers[n] = server
}

// attachDecap has the backend take outer headers off, by the command that an operator uses.
func (s *site) attachDecap(t *testing.T, b *lab.Host) {
	t.Helper()
	pins := fmt.Sprintf("/sys/fs/bpf/sluice-integration-%d-%s-%d", os.Getpid(), b.Name(), time.Now().UnixNano())
	t.Cleanup(func() { must(t, dataplane.Unload(pins)) })
	attach, err := b.Command(t.Context(), binary, "decap", "attach", "--interface", "eth0", "--pin-path", pins)
	must(t, err)
	if err := attach.Wait(); err != nil {
		t.Fatalf("sluice decap attach: %v\n%s", err, attach.Output())
	}
}

// services is the desired state for a way of traffic: one service for each server, on the given backends.
func (w way) services(kind probe.Kind, numbers ...int) []control.Service {
	var services []control.Service
	for port, protocol := range map[uint16]dataplane.Protocol{
		portHTTP: dataplane.ProtocolTCP, portTCP: dataplane.ProtocolTCP, portUDP: dataplane.ProtocolUDP,
	} {
		s := control.Service{
			Name:    fmt.Sprintf("%s-%d", protocol, port),
			Address: w.serviceAddress(), Port: port, Protocol: protocol, Mode: new(w.mode), Probe: &control.Probe{Spec: probe.Spec{Kind: kind}},
		}
		for _, n := range numbers {
			s.Backends = append(s.Backends, control.Backend{Name: fmt.Sprintf("backend%d", n), Address: w.backendAddress(n)})
		}
		services = append(services, s)
	}
	return services
}

// apply makes the daemon's services these, and waits until packets can reach every backend.
func (s *site) apply(t *testing.T, services []control.Service) {
	t.Helper()
	_, err := s.api.Apply(t.Context(), control.ApplyRequest{Services: services, Prune: true})
	must(t, err)
	eventually(t, "every next hop", func() bool {
		status, err := s.api.Status(t.Context())
		must(t, err)
		for i := range status.Services {
			for _, b := range status.Services[i].Backends {
				if !b.NextHop.Resolved {
					return false
				}
			}
		}
		return true
	})
}

// all is every backend.
func all() []int { return []int{0, 1, 2, 3} }

// request runs so many exchanges and wants every one to succeed, and so many backends to get a share (0 is any
// number).
func request(t *testing.T, exchange traffic.Exchange, count, shares int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	report := traffic.Load{Exchange: exchange, Workers: 16, Count: count, Timeout: 10 * time.Second}.Run(ctx)
	if err := report.Err(); err != nil || report.Requests != count {
		t.Errorf("%d of %d exchanges failed: %v", report.Failed, report.Requests, err)
	}
	if shares != 0 && len(report.Backends) != shares {
		t.Errorf("the exchanges reached %v, want %d backends", report.Backends, shares)
	}
}

// run runs a command on the balancer.
func (s *site) run(t *testing.T, name string, args ...string) {
	t.Helper()
	command, err := s.balancer.Command(t.Context(), name, args...)
	must(t, err)
	if err := command.Wait(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, command.Output())
	}
}

// exists tells whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
