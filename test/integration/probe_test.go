package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
			s := newNetwork(t, lab.LinkOptions{MTU: 1600})
			s.serve(t, w)
			d := s.openDataplane(t)
			w.setServices(t, d)
			s.wantProbes(t, d, w)
			load(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 100, backends)
			if conn, err := s.balancer.DialContext(t.Context(), "tcp", w.target(portTCP)); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("without a mark: connected to %v, error %v", conn, err)
			}
		})
	}
}
