package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

// prober makes sockets on the balancer that reach one backend.
type prober struct {
	host   *lab.Host
	mark   uint32
	source netip.Addr
}

// DialContext makes a socket with the mark, bound to the source.
func (p prober) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(p.mark))
		}), err)
	}}
	switch source := netip.AddrPortFrom(p.source, 0); {
	case !p.source.IsValid():
	case network == "tcp":
		dialer.LocalAddr = net.TCPAddrFromAddrPort(source)
	default:
		dialer.LocalAddr = net.UDPAddrFromAddrPort(source)
	}
	var conn net.Conn
	err := p.host.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// openDataplane opens a dataplane on the balancer, with XDP on its interfaces.
func (s *site) openDataplane(t *testing.T) *dataplane.Dataplane {
	t.Helper()
	s.pins = fmt.Sprintf("/sys/fs/bpf/sluice-integration-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() { must(t, s.balancer.Do(func() error { return dataplane.Unload(s.pins) })) })
	var d *dataplane.Dataplane
	must(t, s.balancer.Do(func() (err error) {
		if d, err = dataplane.Open(probeOptions(s.pins)); err != nil {
			return err
		}
		_, err1 := d.Attach("clients", dataplane.XDPNative)
		_, err2 := d.Attach("servers", dataplane.XDPNative)
		return errors.Join(err1, err2)
	}))
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func probeOptions(pins string) dataplane.Options {
	return dataplane.Options{
		PinPath: pins, Limits: dataplane.Limits{Services: 16, Backends: 64, Slots: 1 << 16, Flows: 1 << 12},
	}
}

// probedServices are the services for a way of traffic, on all backends.
func (w way) probedServices() []dataplane.Service {
	var services []dataplane.Service
	for _, s := range w.services("", all()...) {
		service := dataplane.Service{
			ServiceKey: dataplane.ServiceKey{Address: s.Address, Port: s.Port, Protocol: s.Protocol}, Mode: w.mode,
		}
		for _, b := range s.Backends {
			service.Backends = append(service.Backends, dataplane.Backend{Address: b.Address, Weight: 100})
		}
		services = append(services, service)
	}
	return services
}

// setServices sets the services of a way and waits until their backends have next hops.
func (w way) setServices(t *testing.T, d *dataplane.Dataplane) {
	t.Helper()
	for _, service := range w.probedServices() {
		must(t, d.SetService(service))
		eventually(t, "every next hop", func() bool {
			status, _ := d.ServiceStatus(service.ServiceKey)
			for _, b := range status.Backends {
				if !b.NextHop.Resolved {
					return false
				}
			}
			return true
		})
	}
}

// probers returns the sockets that reach a backend of the service with that port.
func (s *site) prober(t *testing.T, d *dataplane.Dataplane, w way, port uint16, n int) prober {
	t.Helper()
	protocol := map[uint16]dataplane.Protocol{
		portHTTP: dataplane.ProtocolTCP, portTCP: dataplane.ProtocolTCP, portUDP: dataplane.ProtocolUDP,
	}[port]
	key := dataplane.ServiceKey{Address: w.serviceAddress(), Port: port, Protocol: protocol}
	backend := netip.AddrPortFrom(w.backendAddress(n), 0)
	mark, err := d.ProbeMark(key, backend)
	must(t, err)
	source, err := d.ProbeSource(key, backend)
	must(t, err)
	return prober{s.balancer, mark, source}
}

// wantProbes wants exchanges with each backend to be answered by it, of every kind.
func (s *site) wantProbes(t *testing.T, d *dataplane.Dataplane, w way) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for n := range s.backends {
		for name, exchange := range map[string]traffic.Exchange{
			"http":      traffic.HTTP(s.prober(t, d, w, portHTTP, n), w.target(portHTTP), 3000),
			"tcp":       traffic.Transfer(s.prober(t, d, w, portTCP, n), w.target(portTCP), 256<<10),
			"udp":       traffic.Datagram(s.prober(t, d, w, portUDP, n), w.target(portUDP), 100),
			"fragments": traffic.Datagram(s.prober(t, d, w, portUDP, n), w.target(portUDP), 3000),
		} {
			if backend, err := exchange(ctx); err != nil || backend != s.backends[n].Name() {
				t.Errorf("%s with %s: %q answered, %v", name, s.backends[n].Name(), backend, err)
			}
		}
	}
}

// A marked socket reaches the backend that it names, at the service's own address. Clients and other sockets go on
// as before.
func TestProbeMark(t *testing.T) {
	for _, w := range ways[2:] {
		t.Run(w.String(), func(t *testing.T) {
			s := newNetwork(t, lab.LinkOptions{MTU: 1600}, backends)
			s.serve(t, w)
			d := s.openDataplane(t)
			w.setServices(t, d)
			s.wantProbes(t, d, w)
			request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 100, backends)
			if conn, err := s.balancer.DialContext(t.Context(), "tcp", w.target(portTCP)); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("without a mark: connected to %v, error %v", conn, err)
			}
		})
	}
}

// The device that probes leave by may leave checksums to be completed later, and be given super-packets.
func TestProbeOffloads(t *testing.T) {
	for _, w := range ways[2:] {
		t.Run(w.String(), func(t *testing.T) {
			s := newNetwork(t, lab.LinkOptions{MTU: 1600, Offloading: true}, backends)
			s.serve(t, w)
			d := s.openDataplane(t)
			w.setServices(t, d)
			s.wantProbes(t, d, w)
		})
	}
}

// A service's address may be the balancer's own, as where a routing daemon announces it, once rules come before own
// addresses and answers from one are let in.
func TestProbeOwnAddress(t *testing.T) {
	for _, w := range []way{ways[2], ways[3], ways[5], ways[6]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newNetwork(t, lab.LinkOptions{MTU: 1600}, backends)
			s.serve(t, w)
			d := s.openDataplane(t)
			w.setServices(t, d)
			must(t, s.balancer.Addr("lo", netip.PrefixFrom(w.serviceAddress(), w.serviceAddress().BitLen()).String()))
			key, backend := w.probedServices()[0].ServiceKey, netip.AddrPortFrom(w.backendAddress(0), 0)
			var err error
			eventually(t, "an error that says that probes never leave", func() bool {
				_, err = d.ProbeMark(key, backend)
				return err != nil
			})
			_, rest, _ := strings.Cut(err.Error(), "`")
			command, _, _ := strings.Cut(rest, "`")
			s.run(t, "sh", "-c", command)
			must(t, s.balancer.Sysctl("net.ipv4.conf.servers.accept_local", "1"))
			s.wantProbes(t, d, w)
			request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 100, backends)
		})
	}
}

// The process is killed at any moment while it makes the way of its probes. The next one's probes go through, and
// unloading leaves nothing.
func TestProbePathKilled(t *testing.T) {
	const rounds = 20
	w := ways[5]
	s := newNetwork(t, lab.LinkOptions{MTU: 1600}, backends)
	s.serve(t, w)
	s.pins = fmt.Sprintf("/sys/fs/bpf/sluice-integration-%d-%d", os.Getpid(), time.Now().UnixNano())
	unload := func() error { return s.balancer.Do(func() error { return dataplane.Unload(s.pins) }) }
	t.Cleanup(func() { must(t, unload()) })
	t.Setenv(victimPins, s.pins)
	for round := range rounds {
		process, err := s.balancer.Command(t.Context(), os.Args[0])
		must(t, err)
		eventually(t, "a process that is about to probe", func() bool { return strings.Contains(process.Output(), "ready") })
		time.Sleep(time.Duration(round) * 1500 * time.Microsecond)
		process.Kill()
		<-process.Done()
		t.Logf("killed after: %q", process.Output())
		if round%2 == 0 {
			must(t, unload())
			s.wantNothingForProbes(t)
			continue
		}
		s.probeOnce(t, w)
	}
	must(t, unload())
	s.wantNothingForProbes(t)
}

// victimPins is the environment variable that has this program be the process that is killed. Its value is the pin
// path.
const victimPins = "SLUICE_TEST_VICTIM_PINS"

// victim probes, and never ends.
func victim(pins string) error {
	d, err := dataplane.Open(probeOptions(pins))
	if err != nil {
		return err
	}
	w := ways[5]
	for _, service := range w.probedServices() {
		if err := d.SetService(service); err != nil {
			return err
		}
	}
	key, backend := w.probedServices()[0].ServiceKey, netip.AddrPortFrom(w.backendAddress(0), 0)
	for _, err = d.ProbeSource(key, backend); err != nil; _, err = d.ProbeSource(key, backend) {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ready")
	if _, err := d.ProbeMark(key, backend); err != nil {
		return err
	}
	fmt.Println("probed")
	select {}
}

// probeOnce opens a dataplane after another process, and probes.
func (s *site) probeOnce(t *testing.T, w way) {
	t.Helper()
	var d *dataplane.Dataplane
	must(t, s.balancer.Do(func() (err error) {
		d, err = dataplane.Open(probeOptions(s.pins))
		return err
	}))
	w.setServices(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if backend, err := traffic.Datagram(s.prober(t, d, w, portUDP, 2), w.target(portUDP), 100)(ctx); err != nil || backend != "backend2" {
		t.Errorf("%q answered, %v", backend, err)
	}
	must(t, d.Close())
}

// wantNothingForProbes wants neither devices, nor rules, nor routes to be left.
func (s *site) wantNothingForProbes(t *testing.T) {
	t.Helper()
	for _, command := range []string{"ip -o link | grep ': sluice-'", "ip rule | grep 20928", "ip -6 rule | grep 20928", "ip route show table all | grep 'table 20928'", "ip -6 route show table all | grep 'table 20928'"} {
		s.run(t, "sh", "-c", "! { "+command+"; }")
	}
}
