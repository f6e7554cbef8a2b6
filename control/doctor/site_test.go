package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/control/doctor"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	folder, err := os.MkdirTemp("", "sluice-doctor-")
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a balancer with one interface towards clients and one towards a switch with two backends. It has
// services of every mode, and is in good health:
//
//	client --clients-- balancer --servers-- switch -- backend0, backend1
type site struct {
	lab                  *lab.Lab
	client, balancer     *lab.Host
	backends             []*lab.Host
	daemon               *lab.Process
	config, socket, pins string
	api                  *control.Client
}

// The addresses of the site. Backend n has 198.51.100.(10+n) and 2001:db8:2::(10+n).
const (
	vipNAT  = "203.0.113.10"
	vipL2   = "203.0.113.11"
	vipIPIP = "203.0.113.12"
	vip4In6 = "203.0.113.13"
	vipGUE  = "203.0.113.14"
	vip6    = "2001:db8:3::11"
	vip6In4 = "2001:db8:3::12"
	port    = 80
)

// settings of a site other than the usual ones.
type settings struct {
	config string   // lines of the daemon's configuration
	prefix []string // of the daemon's command line
}

func newSite(t *testing.T, set settings) *site {
	t.Helper()
	l := lab.ForTest(t)
	s := &site{lab: l, client: host(t, l, "client"), balancer: host(t, l, "balancer")}
	network, err := l.Switch("switch")
	must(t, err)
	const mtu = 1600 // room for the outer header
	must(t, errors.Join(
		l.Connect(s.client, "eth0", s.balancer, "clients", lab.LinkOptions{}),
		network.Join(s.balancer, "servers", lab.LinkOptions{MTU: mtu}),
		s.client.Addr("eth0", "192.0.2.2/24"),
		s.balancer.Addr("clients", "192.0.2.1/24", "2001:db8:1::1/64"),
		s.balancer.Addr("servers", "198.51.100.1/24", "2001:db8:2::1/64"),
		s.balancer.Forward(),
	))
	for n := range 2 {
		b := host(t, l, fmt.Sprintf("backend%d", n))
		must(t, errors.Join(
			network.Join(b, "eth0", lab.LinkOptions{MTU: mtu}),
			b.Addr("eth0", backend(n)+"/24", backend6(n)+"/64"),
			b.Addr("lo", vipL2+"/32", vipIPIP+"/32", vip4In6+"/32", vip6+"/128", vip6In4+"/128"),
			b.Route("0.0.0.0/0", "198.51.100.1"),
			b.Sysctl("net.ipv4.conf.all.arp_ignore", "1"),
		))
		s.backends = append(s.backends, b)
	}
	s.startDaemon(t, set)
	for n, b := range s.backends {
		s.decap(t, n, "attach")
		listen(t, b, "[::]:80")
	}
	s.apply(t, services()...)
	return s
}

func host(t *testing.T, l *lab.Lab, name string) *lab.Host {
	t.Helper()
	h, err := l.Host(name)
	must(t, err)
	return h
}

func backend(n int) string  { return fmt.Sprintf("198.51.100.%d", 10+n) }
func backend6(n int) string { return fmt.Sprintf("2001:db8:2::%x", 10+n) }

// services are of every mode, and of both families.
func services() []control.Service {
	var all []control.Service
	for _, s := range []struct {
		name, vip string
		mode      dataplane.Mode
		address   func(int) string
	}{
		{"nat", vipNAT, dataplane.ModeNAT, backend},
		{"l2", vipL2, dataplane.ModeL2, backend},
		{"ipip", vipIPIP, dataplane.ModeIPIP, backend},
		{"six", vip6, dataplane.ModeL2, backend6},
		{"six-in-four", vip6In4, dataplane.ModeIPIP, backend},
		{"four-in-six", vip4In6, dataplane.ModeIPIP, backend6},
	} {
		service := control.Service{
			Name: s.name, Address: netip.MustParseAddr(s.vip), Port: port, Mode: new(s.mode), Probe: &control.Probe{Spec: probe.Spec{Kind: control.ProbeNone}},
		}
		for n := range 2 {
			service.Backends = append(service.Backends, control.Backend{
				Name: fmt.Sprintf("backend%d", n), Address: netip.MustParseAddr(s.address(n)),
			})
		}
		all = append(all, service)
	}
	return all
}

func (s *site) startDaemon(t *testing.T, set settings) {
	t.Helper()
	folder := t.TempDir()
	s.pins = fmt.Sprintf("/sys/fs/bpf/sluice-doctor-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() { must(t, dataplane.Unload(s.pins)) })
	s.config, s.socket = filepath.Join(folder, "sluice.yaml"), filepath.Join(folder, "sluice.sock")
	s.api = control.NewClient(s.socket)
	must(t, os.WriteFile(s.config, fmt.Appendf(nil, `
interfaces: [clients, servers]
pin-path: %q
store: %q
api: {socket: %q}
metrics: {address: ""}
limits: {services: 64, backends: 64, slots: 65536, flows: 1024}
%s
`, s.pins, filepath.Join(folder, "sluice.db"), s.socket, set.config), 0o600))
	line := append(set.prefix, binary, "run", "--config", s.config)
	daemon, err := s.balancer.Command(t.Context(), line[0], line[1:]...)
	must(t, err)
	s.daemon = daemon
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

// eventually waits for what happens in another process, at most 10 seconds.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s within 10 s", what)
		}
	}
}

// apply makes the daemon's services these, and waits until every next hop is known.
func (s *site) apply(t *testing.T, services ...control.Service) {
	t.Helper()
	_, err := s.api.Apply(t.Context(), control.ApplyRequest{Services: services, Prune: true})
	must(t, err)
	s.await(t, "every next hop", func(b control.BackendStatus) bool { return b.NextHop.Resolved })
}

// await waits until all backends are as they should be.
func (s *site) await(t *testing.T, what string, as func(control.BackendStatus) bool) {
	t.Helper()
	eventually(t, what, func() bool {
		status, err := s.api.Status(t.Context())
		must(t, err)
		for i := range status.Services {
			for _, b := range status.Services[i].Backends {
				if !as(b) {
					return false
				}
			}
		}
		return true
	})
}

// decap attaches or detaches the program that takes outer headers off a backend.
func (s *site) decap(t *testing.T, n int, what string) {
	t.Helper()
	pins := fmt.Sprintf("%s-%d", s.pins, n)
	if what == "attach" {
		t.Cleanup(func() { must(t, dataplane.Unload(pins)) })
	}
	run(t, s.backends[n], binary, "decap", what, "--interface", "eth0", "--pin-path", pins)
}

// run runs a program on a host and wants it to succeed.
func run(t *testing.T, h *lab.Host, name string, args ...string) {
	t.Helper()
	p, err := h.Command(t.Context(), name, args...)
	must(t, err)
	if err := p.Wait(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, p.Output())
	}
}

// listen has a host accept connections and close them.
func listen(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	listener, err := h.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

// examine runs the doctor on the balancer, and returns the report and the exit code.
func (s *site) examine(t *testing.T, args ...string) (doctor.Report, int) {
	t.Helper()
	return examine(t, s.balancer, append([]string{binary, "doctor", "-o", "json", "--config", s.config}, args...)...)
}

func examine(t *testing.T, h *lab.Host, line ...string) (doctor.Report, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p, err := h.Command(ctx, line[0], line[1:]...)
	must(t, err)
	code := 0
	if err := p.Wait(); err != nil {
		exit := new(exec.ExitError)
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	var report doctor.Report
	if err := json.Unmarshal([]byte(p.Output()), &report); err != nil {
		t.Fatalf("exit code %d: %v\n%s", code, err, p.Output())
	}
	return report, code
}
