package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/traffic"
)

// flows opens long-lived connections, half the rest of them UDP, that check every echo.
func (s *site) flows(t *testing.T, w way, count int) []*traffic.Flow {
	t.Helper()
	flows := make([]*traffic.Flow, count)
	var group sync.WaitGroup
	for i := range flows {
		network, port := "tcp", uint16(portTCP)
		if i%5 == 4 {
			network, port = "udp", portUDP
		}
		group.Go(func() {
			flow, err := traffic.OpenFlow(t.Context(), s.client, network, w.target(port), 100*time.Millisecond)
			if err != nil {
				t.Error("opening a flow:", err)
			}
			flows[i] = flow
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return flows
}

// close ends the flows and wants each to have lived, on one backend.
func closeFlows(t *testing.T, flows []*traffic.Flow) {
	t.Helper()
	var group sync.WaitGroup
	for i, flow := range flows {
		group.Go(func() {
			if err := flow.Close(); err != nil {
				t.Errorf("flow %d to %s after %d echoes: %v", i, flow.Backend(), flow.Echoes(), err)
			}
		})
	}
	group.Wait()
}

// 500 connections live through 100 table rewrites; no backend fails, so none moves or breaks.
func TestRewrites(t *testing.T) {
	for _, w := range []way{ways[0], ways[1], ways[2], ways[4]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			flows := s.flows(t, w, 500)
			before, err := s.api.Status(t.Context())
			must(t, err)
			for i := range 120 {
				backend, patch := fmt.Sprintf("backend%d", i%backends), control.BackendPatch{Weight: new(1 + (i*37)%100)}
				switch i % 20 {
				case 9:
					backend, patch = "backend1", control.BackendPatch{State: new(control.StateDraining)}
				case 14:
					backend, patch = "backend1", control.BackendPatch{State: new(control.StateUp)}
				}
				for _, service := range []string{"tcp-7", "udp-9"} {
					_, err := s.api.UpdateBackend(t.Context(), service, backend, patch)
					must(t, err)
				}
				time.Sleep(10 * time.Millisecond) // echoes go on between the rewrites
			}
			after, err := s.api.Status(t.Context())
			must(t, err)
			if rewrites := after.Tables.TableRewrites - before.Tables.TableRewrites; rewrites < 200 {
				t.Errorf("only %d tables were rewritten, want 100 of each of two services", rewrites)
			}
			closeFlows(t, flows)
			s.wantNoDrops(t)
		})
	}
}

// The daemon is killed and started again under traffic: not one request fails, no connection moves.
func TestDaemonRestarts(t *testing.T) {
	for _, w := range []way{ways[0], ways[2], ways[7]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			flows := s.flows(t, w, 50)
			ctx, stop := context.WithCancel(t.Context())
			reports := make(chan traffic.Report, 1)
			go func() {
				reports <- traffic.Load{
					Exchange: traffic.HTTP(s.client, w.target(portHTTP), 100), Workers: 4, Rate: 200, Timeout: 5 * time.Second,
				}.Run(ctx)
			}()
			for range 3 {
				time.Sleep(300 * time.Millisecond) // traffic with the daemon
				s.daemon.Kill()
				<-s.daemon.Done()
				time.Sleep(300 * time.Millisecond) // and without
				s.startDaemon(t)
			}
			time.Sleep(300 * time.Millisecond)
			stop()
			report := <-reports
			if err := report.Err(); err != nil || report.Requests < 100 {
				t.Errorf("%d of %d requests failed: %v", report.Failed, report.Requests, err)
			}
			closeFlows(t, flows)
			status, err := s.api.Status(t.Context())
			must(t, err)
			if status.Tables.TableRewrites != 0 {
				t.Errorf("the last daemon wrote %d tables anew", status.Tables.TableRewrites)
			}
			s.wantNoDrops(t)
		})
	}
}

// A probe takes a dead backend out and brings it back.
func TestProbes(t *testing.T) {
	w := ways[0]
	s := newSite(t)
	s.serve(t, w)
	services := w.services("", all()...)
	for i := range services {
		services[i].Health = control.Health{Damping: -1, SlowStart: -1} // backends return at once, though they fail again
	}
	s.apply(t, services)
	state := func(backend string) control.State {
		service := s.service(t, "tcp-80")
		for _, b := range service.Backends {
			if b.Name == backend {
				return b.State
			}
		}
		return ""
	}
	must(t, s.backends[2].LinkDown("eth0"))
	eventually(t, "a backend that is down", func() bool { return state("backend2") == control.StateDown })
	request(t, traffic.HTTP(s.client, w.target(portHTTP), 100), 200, backends-1)
	if service := s.service(t, "tcp-80"); service.State != control.ServiceDegraded {
		t.Errorf("the service is %s", service.State)
	}
	must(t, s.backends[2].LinkUp("eth0"))
	must(t, s.backends[2].Route("0.0.0.0/0", "198.51.100.1"))
	eventually(t, "a backend that is up", func() bool { return state("backend2") == control.StateUp })
	request(t, traffic.HTTP(s.client, w.target(portHTTP), 100), 200, backends)

	for _, b := range s.backends {
		must(t, b.LinkDown("eth0"))
	}
	eventually(t, "a panic", func() bool { return s.service(t, "tcp-80").State == control.ServicePanic })
	for _, b := range s.backends {
		must(t, b.LinkUp("eth0"))
		must(t, b.Route("0.0.0.0/0", "198.51.100.1"))
	}
	eventually(t, "its end", func() bool { return s.service(t, "tcp-80").State == control.ServiceOK })
	request(t, traffic.HTTP(s.client, w.target(portHTTP), 100), 200, backends)
}

func (s *site) service(t *testing.T, name string) control.ServiceStatus {
	t.Helper()
	status, err := s.api.Status(t.Context())
	must(t, err)
	for _, service := range status.Services {
		if service.Name == name {
			return service
		}
	}
	t.Fatalf("the status has no service %s", name)
	return control.ServiceStatus{}
}

// A drained backend keeps its connections and gets no new ones.
func TestDrain(t *testing.T) {
	w := ways[1]
	s := newSite(t)
	s.serve(t, w)
	s.apply(t, w.services(control.ProbeNone, all()...))
	flows := s.flows(t, w, 40)
	for _, service := range []string{"tcp-7", "udp-9", "tcp-80"} {
		_, err := s.api.UpdateBackend(t.Context(), service, "backend1", control.BackendPatch{State: new(control.StateDraining)})
		must(t, err)
	}
	request(t, traffic.HTTP(s.client, w.target(portHTTP), 100), 200, backends-1)
	closeFlows(t, flows)
	s.wantNoDrops(t)
}

// Unload takes everything out of the kernel.
func TestUnload(t *testing.T) {
	s := newSite(t)
	status, err := s.api.Status(t.Context())
	must(t, err)
	s.daemon.Signal(15)
	if err := s.daemon.Wait(); err != nil {
		t.Fatalf("stopping the daemon: %v", err)
	}
	if !exists(status.PinPath) {
		t.Fatal("stopping the daemon has unloaded the dataplane")
	}
	unload, err := s.balancer.Command(t.Context(), binary, "unload", "--yes", "--pin-path", status.PinPath)
	must(t, err)
	if err := unload.Wait(); err != nil {
		t.Fatalf("sluice unload: %v\n%s", err, unload.Output())
	}
	if exists(status.PinPath) {
		t.Error("the pins are still there")
	}
	link, err := s.balancer.Netlink().LinkByName("clients")
	must(t, err)
	if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
		t.Error("the program is still attached")
	}
}

// A second daemon is refused, and the first one goes on.
func TestTwoDaemons(t *testing.T) {
	s := newSite(t)
	second, err := s.balancer.Command(t.Context(), binary, "run", "--config", s.config)
	must(t, err)
	if err := second.Wait(); err == nil {
		t.Error("a second daemon ran")
	}
	if _, err := s.api.CreateService(t.Context(), control.Service{Address: ways[0].serviceAddress(), Port: 80, Protocol: dataplane.ProtocolTCP}); err != nil {
		t.Errorf("the first daemon: %v", err)
	}
}
