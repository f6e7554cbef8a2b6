package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/traffic"
)

// get fetches a path from the API's socket, or from an address in the balancer's namespace.
func (s *site) get(t *testing.T, url string, dial func(ctx context.Context, network, address string) (net.Conn, error)) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	response, err := client.Get(url)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s\n%s", url, response.Status, body)
	}
	return string(body)
}

func (s *site) unix(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(filepath.Dir(s.config), "sluice.sock"))
}

// The API describes itself, whole.
func TestOpenAPI(t *testing.T) {
	s := newSite(t)
	var document struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	must(t, json.Unmarshal([]byte(s.get(t, "http://sluice/openapi.json", s.unix)), &document))
	if !strings.HasPrefix(document.OpenAPI, "3.1.") {
		t.Errorf("it is OpenAPI %q", document.OpenAPI)
	}
	for path, methods := range map[string]string{
		"/v1/services":                              "get post",
		"/v1/services/{service}":                    "get patch delete",
		"/v1/services/{service}/backends":           "post",
		"/v1/services/{service}/backends/{backend}": "patch delete",
		"/v1/apply":                                 "post",
		"/v1/status":                                "get",
		"/v1/version":                               "get",
		"/v1/log-level":                             "get put",
	} {
		for _, method := range strings.Fields(methods) {
			if document.Paths[path][method].OperationID == "" {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
}

// Every call, by a client, with its errors.
func TestAPI(t *testing.T) {
	s := newSite(t)
	ctx, api := t.Context(), s.api
	web := control.Service{Name: "web", Address: netip.MustParseAddr(service4), Port: 80, Protocol: dataplane.ProtocolTCP}
	created, err := api.CreateService(ctx, web)
	must(t, err)
	if created.Mode == nil || *created.Mode != dataplane.ModeNAT {
		t.Errorf("created %+v", created)
	}
	_, err = api.CreateService(ctx, web)
	wantError(t, err, control.ErrConflict, `"web"`)
	status, err := api.Status(ctx)
	must(t, err)
	if got := status.Services[0].State; got != control.ServiceFailed || !strings.Contains(strings.Join(status.Problems, "\n"), "sluice backend add web") {
		t.Errorf("a service without backends is %s, with the problems %q", got, status.Problems)
	}
	backend, err := api.AddBackend(ctx, service4+":80/tcp", control.Backend{Address: backend4(0)})
	must(t, err)
	if backend.Name != backend4(0).String() || backend.Port != 80 || *backend.Weight != 100 {
		t.Errorf("added %+v", backend)
	}
	_, err = api.AddBackend(ctx, "web", control.Backend{Address: backend6(0)})
	wantError(t, err, control.ErrInvalid, "only modes ipip and gue allow")
	_, err = api.UpdateBackend(ctx, "web", backend.Name, control.BackendPatch{Weight: new(1001)})
	wantError(t, err, control.ErrInvalid, "1000")
	updated, err := api.UpdateBackend(ctx, "web", backend.Name, control.BackendPatch{Weight: new(0), Name: new("first")})
	must(t, err)
	if *updated.Weight != 0 || updated.Name != "first" {
		t.Errorf("updated to %+v", updated)
	}
	renamed, err := api.UpdateService(ctx, "web", control.ServicePatch{Name: new("shop")})
	must(t, err)
	if renamed.Name != "shop" || len(renamed.Backends) != 1 {
		t.Errorf("renamed to %+v", renamed)
	}
	_, err = api.Service(ctx, "web")
	wantError(t, err, control.ErrNotFound, `"web"`)
	if got := s.service(t, "shop"); got.State != control.ServiceFailed || len(got.Backends) != 1 {
		t.Errorf("a service whose only backend has no weight is %+v", got)
	}
	dry, err := api.Apply(ctx, control.ApplyRequest{Services: []control.Service{}, Prune: true, DryRun: true})
	must(t, err)
	if services, err := api.Services(ctx); err != nil || len(services) != 1 || len(dry.Changes) != 1 {
		t.Errorf("a dry run of %+v left %+v, %v", dry, services, err)
	}
	must(t, api.RemoveBackend(ctx, "shop", "first"))
	wantError(t, api.RemoveBackend(ctx, "shop", "first"), control.ErrNotFound, `"first"`)
	must(t, api.RemoveService(ctx, "shop"))
	wantError(t, api.RemoveService(ctx, "shop"), control.ErrNotFound, `"shop"`)
	must(t, api.SetLogLevel(ctx, "debug"))
	if level, err := api.LogLevel(ctx); err != nil || level != "debug" {
		t.Errorf("the level is %q, %v", level, err)
	}
	if err := api.SetLogLevel(ctx, "loud"); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("a wrong level: error is %v", err)
	}
	_, err = control.NewClient("/nowhere").Status(ctx)
	wantError(t, err, control.ErrUnreachable, "sluice run")
}

func wantError(t *testing.T, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want %v with %s", err, want, text)
	}
}

// Many at once: every change is made, none is lost.
func TestConcurrentChanges(t *testing.T) {
	s := newSite(t)
	_, err := s.api.CreateService(t.Context(), control.Service{Name: "web", Address: netip.MustParseAddr(service4), Port: 80, Protocol: dataplane.ProtocolTCP})
	must(t, err)
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			address := netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + n)})
			if _, err := s.api.AddBackend(t.Context(), "web", control.Backend{Address: address}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := s.service(t, "web"); len(got.Backends) != 50 || got.Slots == 0 {
		t.Errorf("the service has %d backends and %d slots", len(got.Backends), got.Slots)
	}
}

// What clients did shows in the metrics.
func TestMetrics(t *testing.T) {
	w := ways[0]
	s := newSite(t)
	s.serve(t, w)
	s.apply(t, w.services(control.ProbeNone, all()...))
	load(t, traffic.Datagram(s.client, w.target(portUDP), 100), 100, backends)
	text := s.get(t, "http://127.0.0.1:9433/metrics", s.balancer.DialContext)
	if packets := sum(t, text, "sluice_backend_packets_total", "udp-9"); packets != 100 {
		t.Errorf("the metrics count %d packets, want 100", packets)
	}
	// Two of the datagrams may have come from the same port: they are one flow.
	if flows := sum(t, text, "sluice_backend_new_flows_total", "udp-9"); flows < 80 || flows > 100 {
		t.Errorf("the metrics count %d new flows, want about 100", flows)
	}
	for _, want := range []string{
		`sluice_backend_state{backend="backend0",service="tcp-80",state="up"} 1`,
		`sluice_drops_total{reason="next_hop_unresolved"} `,
		`sluice_passes_total{reason="no_service"} `,
		"sluice_table_rewrites_total 3",
		"sluice_table_last_rewrite_seconds ",
		`sluice_build_info{version=`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// sum adds up a metric of a service's backends.
func sum(t *testing.T, text, metric, service string) (total int) {
	t.Helper()
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "} ")
		if !ok || !strings.HasPrefix(name, metric+"{") || !strings.Contains(name, fmt.Sprintf("service=%q", service)) {
			continue
		}
		var count int
		_, err := fmt.Sscan(value, &count)
		must(t, err)
		total += count
	}
	return total
}
