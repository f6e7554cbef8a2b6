package control

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// Everything in the status that changes is a metric, and every metric is in the documentation.
func TestStatusAsMetrics(t *testing.T) {
	status := Status{
		Version:  "1.2.3",
		Problems: []string{"one"},
		Reasons:  map[string]uint64{"pass_no_service": 7, "drop_malformed": 2},
		Tables:   dataplane.Stats{TableRewrites: 4, LastRewrite: time.Millisecond, TotalRewrite: 3 * time.Second, SlotsUsed: 251},
		Services: []ServiceStatus{{
			Name: "web", State: ServiceDegraded,
			Backends: []BackendStatus{{
				Name: "one", Address: netip.MustParseAddr("198.51.100.1"), State: StateDown, Share: 0.5,
				NextHop: dataplane.NextHop{Resolved: true}, Counters: dataplane.Counters{Packets: 10, Bytes: 640, NewFlows: 3, Replies: 9},
				Score: 0.25, Terms: health.Terms{Success: 1, Latency: 0.5, Handshakes: 0.5, Load: 1}, InForce: 0.3,
				ProbeLatency: Duration(2 * time.Millisecond), Handshake: Duration(30 * time.Millisecond), HandshakesFailed: 0.5,
			}},
		}},
	}
	registry := prometheus.NewRegistry()
	events := map[eventCount]uint64{{"web", "one", "state", "down"}: 2}
	registry.MustRegister(statusCollector{
		status: func() Status { return status },
		events: func() map[eventCount]uint64 { return events },
		missed: func() uint64 { return 12 },
		latest: func() map[string]forecast.Forecast {
			return map[string]forecast.Forecast{"web": {Quantiles: forecast.Quantiles{P10: 10, P50: 20, P90: 30}, Confidence: 0.5}}
		},
		scale: func() []ScaleStatus {
			return []ScaleStatus{{
				Service: "web", Backends: 4, Ready: 3, Wanted: 5, Load: new(80.5), ServiceRate: 25, Confidence: 0.75, Predictive: true, Paused: &ScalePause{},
				Resilience: new(0.875),
			}}
		},
	})
	response := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var got []string
	for line := range strings.Lines(response.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`sluice_backend_bytes_total{backend="one",service="web"} 640`,
		`sluice_backend_handshake_failures{backend="one",service="web"} 0.5`,
		`sluice_backend_handshake_seconds{backend="one",service="web"} 0.03`,
		`sluice_backend_new_flows_total{backend="one",service="web"} 3`,
		`sluice_backend_next_hop_resolved{backend="one",service="web"} 1`,
		`sluice_backend_packets_total{backend="one",service="web"} 10`,
		`sluice_backend_probe_latency_seconds{backend="one",service="web"} 0.002`,
		`sluice_backend_replies_total{backend="one",service="web"} 9`,
		`sluice_backend_score_term{backend="one",service="web",term="handshakes"} 0.5`,
		`sluice_backend_score_term{backend="one",service="web",term="latency"} 0.5`,
		`sluice_backend_score_term{backend="one",service="web",term="load"} 1`,
		`sluice_backend_score_term{backend="one",service="web",term="success"} 1`,
		`sluice_backend_score{backend="one",service="web"} 0.25`,
		`sluice_backend_slot_share{backend="one",service="web"} 0.5`,
		`sluice_backend_state{backend="one",service="web",state="down"} 1`,
		`sluice_backend_state{backend="one",service="web",state="draining"} 0`,
		`sluice_backend_state{backend="one",service="web",state="standby"} 0`,
		`sluice_backend_state{backend="one",service="web",state="up"} 0`,
		`sluice_backend_weight_in_force{backend="one",service="web"} 0.3`,
		`sluice_build_info{version="1.2.3"} 1`,
		`sluice_drops_total{reason="malformed"} 2`,
		`sluice_events_total{backend="one",kind="state",service="web",to="down"} 2`,
		`sluice_forecast_confidence{service="web"} 0.5`,
		`sluice_forecast_new_flows{quantile="0.1",service="web"} 10`,
		`sluice_forecast_new_flows{quantile="0.5",service="web"} 20`,
		`sluice_forecast_new_flows{quantile="0.9",service="web"} 30`,
		`sluice_passes_total{reason="no_service"} 7`,
		`sluice_problems 1`,
		`sluice_events_lost_total 12`,
		`sluice_scale_backends_ready{service="web"} 3`,
		`sluice_scale_backends_wanted{service="web"} 5`,
		`sluice_scale_backends{service="web"} 4`,
		`sluice_scale_confidence{service="web"} 0.75`,
		`sluice_scale_load{service="web"} 80.5`,
		`sluice_scale_paused{service="web"} 1`,
		`sluice_scale_predictive{service="web"} 1`,
		`sluice_scale_resilience{service="web"} 0.875`,
		`sluice_scale_service_rate{service="web"} 25`,
		`sluice_service_state{service="web",state="degraded"} 1`,
		`sluice_service_state{service="web",state="failed"} 0`,
		`sluice_service_state{service="web",state="ok"} 0`,
		`sluice_service_state{service="web",state="panic"} 0`,
		`sluice_slots_used 251`,
		`sluice_table_last_rewrite_seconds 0.001`,
		`sluice_table_rewrite_seconds_total 3`,
		`sluice_table_rewrites_total 4`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("metrics differ (-want +got):\n%s", difference)
	}
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range got {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "sluice_"), "{")
		if name, _, _ = strings.Cut(name, " "); !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
}

// A port in use is an error that names the key and the way out.
func TestMetricsAddressInUse(t *testing.T) {
	first, err := MetricsConfig{Address: "127.0.0.1:0"}.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := first.Addr().String()
	if _, err := (MetricsConfig{Address: address}).listen(); err == nil ||
		!strings.Contains(err.Error(), "metrics.address "+address) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("error is %v", err)
	}
	if off, err := (MetricsConfig{}).listen(); off != nil || err != nil {
		t.Errorf("switched off: %v, %v", off, err)
	}
}
