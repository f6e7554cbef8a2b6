package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

// In every mode probes meet what clients meet: a server that is gone, and that is back. Where backends answer directly the
// servers listen on the service's address alone, so that only probes by the way of traffic reach them.
func TestServerGone(t *testing.T) {
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, []control.Service{w.judged()})
			s.wantState(t, "backend1", control.StateUp)
			s.servers[1].Close()
			s.wantState(t, "backend1", control.StateDown)
			client := traffic.HTTP(s.client, w.target(portHTTP), 100)
			request(t, client, 100, backends-1)
			s.startServer(t, w, 1)
			s.wantState(t, "backend1", control.StateUp)
			request(t, client, 100, backends)
			s.wantEvents(t, "web/backend1 up -> down: 3 of 3 probes failed", "web/backend1 down -> up: 2 of 2 probes succeeded")
		})
	}
}

// What a backend says of its load changes its share, and takes it out and in.
func TestLoadReports(t *testing.T) {
	w := ways[0]
	s := newSite(t)
	s.serve(t, w)
	words := make([]atomic.Value, backends)
	for n, b := range s.backends {
		words[n].Store("100%")
		serveAgent(t, b, &words[n])
	}
	web := w.judged()
	web.Load = control.Load{Spec: load.Spec{Kind: load.Agent}, Port: portAgent, Interval: control.Duration(100 * time.Millisecond)}
	s.apply(t, []control.Service{web})
	words[2].Store("50%")
	eventually(t, "half a share", func() bool { return s.backend(t, "backend2").InForce == 0.5 })
	words[2].Store("drain")
	s.wantState(t, "backend2", control.StateDraining)
	words[2].Store("ready down # disk full")
	s.wantState(t, "backend2", control.StateDown)
	words[2].Store("up 100%")
	s.wantState(t, "backend2", control.StateUp)
	eventually(t, "its whole share", func() bool { return s.backend(t, "backend2").InForce == 1 })
	s.wantEvents(t, "up -> draining: its agent says 50%, drain", "-> down: its agent says 50%, ready, down (disk full)")
}

// A backend that drains gets no new flows, and it is told when the last one has ended.
func TestDrained(t *testing.T) {
	for _, w := range []way{ways[0], ways[2]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, []control.Service{w.judged()})
			flow := s.openFlowTo(t, w, "backend3")
			_, err := s.api.UpdateBackend(t.Context(), "web", "backend3", control.BackendPatch{State: new(control.StateDraining)})
			must(t, err)
			request(t, traffic.HTTP(s.client, w.target(portHTTP), 100), 100, backends-1)
			live := func() int {
				flows, err := s.api.LiveFlows(t.Context(), "web", "backend3", 2*time.Second)
				must(t, err)
				return flows
			}
			eventually(t, "the flow alone", func() bool { return live() == 1 })
			if flow.Err() != nil || flow.Backend() != "backend3" {
				t.Errorf("the flow is at %s: %v", flow.Backend(), flow.Err())
			}
			flow.Close()
			eventually(t, "no flow", func() bool { return live() == 0 })
		})
	}
}

// openFlowTo opens flows until one is at the backend.
func (s *site) openFlowTo(t *testing.T, w way, backend string) *traffic.Flow {
	t.Helper()
	for range 100 {
		flow, err := traffic.OpenFlow(t.Context(), s.client, "http", w.target(portHTTP), 100*time.Millisecond)
		must(t, err)
		if flow.Backend() == backend {
			return flow
		}
		flow.Close()
	}
	t.Fatalf("none of 100 flows reached %s", backend)
	return nil
}

// judged is the HTTP service of a way, whose backends are probed and return at once with their whole weight.
func (w way) judged() control.Service {
	const off = -1
	web := control.Service{
		Name: "web", Address: w.serviceAddress(), Port: portHTTP, Mode: new(w.mode),
		Probe:  &control.Probe{Spec: probe.Spec{Kind: probe.HTTP}},
		Health: control.Health{Damping: off, SlowStart: off},
	}
	for _, n := range all() {
		web.Backends = append(web.Backends, control.Backend{Name: fmt.Sprintf("backend%d", n), Address: w.backendAddress(n)})
	}
	return web
}

const portAgent = 8000

// serveAgent says the words to whoever connects.
func serveAgent(t *testing.T, on *lab.Host, words *atomic.Value) {
	t.Helper()
	listener, err := on.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), portAgent).String())
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			say(conn, words.Load().(string))
		}
	}()
}

func say(conn net.Conn, words string) {
	defer conn.Close()
	fmt.Fprintln(conn, words)
}

// backend is the status of a backend of the first service.
func (s *site) backend(t *testing.T, name string) control.BackendStatus {
	t.Helper()
	status, err := s.api.Status(t.Context())
	must(t, err)
	for _, b := range status.Services[0].Backends {
		if b.Name == name {
			return b
		}
	}
	t.Fatalf("there is no backend %s", name)
	return control.BackendStatus{}
}

func (s *site) wantState(t *testing.T, name string, state control.State) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s in state %s", name, state), func() bool { return s.backend(t, name).State == state })
}

// wantEvents wants events whose texts contain these, in any order.
func (s *site) wantEvents(t *testing.T, texts ...string) {
	t.Helper()
	var all strings.Builder
	must(t, s.api.Events(t.Context(), control.EventsRequest{}, func(e control.Event) bool {
		fmt.Fprintln(&all, e)
		return true
	}))
	for _, text := range texts {
		if !strings.Contains(all.String(), text) {
			t.Errorf("no event says %q:\n%s", text, all.String())
		}
	}
}
