package control

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluicelb/sluice/brain/forecast"
)

// listen opens the address of /metrics; nil when metrics are switched off.
func (c MetricsConfig) listen() (net.Listener, error) {
	if c.Address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("metrics.address %s: %w (\"\" switches metrics off)", c.Address, err)
	}
	return listener, nil
}

// metricsHandler serves /metrics, made from the daemon's status at each scrape.
func (d *Daemon) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		statusCollector{d.status, d.reconciler.journal.counted, d.reconciler.journal.missed, d.forecasts.Latest, d.scaler.report},
	)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// statusCollector turns a Status into metrics.
type statusCollector struct {
	status func() Status
	events func() map[eventCount]uint64
	missed func() uint64                       // events, by readers that are slow
	latest func() map[string]forecast.Forecast // of the services that learn
	scale  func() []ScaleStatus
}

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

var (
	buildInfo       = metric("build_info", "Always 1.", "version")
	serviceStates   = metric("service_state", "1 for the state that a service is in.", "service", "state")
	backendPackets  = metric("backend_packets_total", "Packets from clients sent to a backend.", "service", "backend")
	backendBytes    = metric("backend_bytes_total", "Bytes of these packets' frames as received.", "service", "backend")
	backendFlows    = metric("backend_new_flows_total", "Flows that began at a backend.", "service", "backend")
	backendReplies  = metric("backend_replies_total", "Packets of a backend sent back to clients, in nat mode.", "service", "backend")
	backendStates   = metric("backend_state", "1 for the state that a backend is in.", "service", "backend", "state")
	backendResolved = metric("backend_next_hop_resolved", "1 when packets for a backend can leave the host.", "service", "backend")
	backendShare    = metric("backend_slot_share", "Share of its service's slots, 0 to 1.", "service", "backend")
	backendScore    = metric("backend_score", "How well a backend does, 0 to 1.", "service", "backend")
	backendTerms    = metric("backend_score_term", "The factors of its score, 0 to 1.", "service", "backend", "term")
	backendInForce  = metric("backend_weight_in_force", "Share of its weight that a backend has now, 0 to 1.", "service", "backend")
	probeLatency    = metric("backend_probe_latency_seconds", "Geometric mean of the latency of its latest probes; absent without any.", "service", "backend")
	handshakeTime   = metric("backend_handshake_seconds", "Geometric mean of the time from SYN to the client's next packet, lately; absent when none was seen.", "service", "backend")
	handshakeFails  = metric("backend_handshake_failures", "Share of handshakes that failed lately, 0 to 1.", "service", "backend")
	forecastFlows   = metric("forecast_new_flows", "New flows in the minute that begins in 14 minutes: what they stay below with this probability. Of services that learn.", "service", "quantile")
	forecastSure    = metric("forecast_confidence", "Probability that they are within 10 % of the quantile 0.5, 0 to 1.", "service")
	scaleWanted     = metric("scale_backends_wanted", "Backends that a service shall have, by the latest decision. Of services that scale.", "service")
	scaleThere      = metric("scale_backends", "Backends that it has or that are ordered.", "service")
	scaleReady      = metric("scale_backends_ready", "Of them, those that are up.", "service")
	scaleLoad       = metric("scale_load", "New flows per second that the latest decision is about; absent while unknown.", "service")
	scaleRate       = metric("scale_service_rate", "New flows per second that a backend serves; absent while it is not known.", "service")
	scaleSure       = metric("scale_confidence", "Share of the latest plans that sufficed, 0 to 1.", "service")
	scalePredictive = metric("scale_predictive", "1 when the latest decision follows from a forecast.", "service")
	scalePaused     = metric("scale_paused", "1 while scaling is paused.", "service")
	scaleResilience = metric("scale_resilience", "Probability that the objective is kept when a scenario happens, 0 to 1; absent without scenarios.", "service")
	eventsLost      = metric("events_lost_total", "Events that readers were too slow for.")
	eventsCounted   = metric("events_total", "Changes that the daemon made by itself.", "service", "backend", "kind", "to")
	ends            = map[string]*prometheus.Desc{ // by the first word of the reason
		"pass":   metric("passes_total", "Packets left to the host's own stack.", "reason"),
		"drop":   metric("drops_total", "Packets dropped.", "reason"),
		"answer": metric("answers_total", "Packets answered by Sluice itself.", "reason"),
	}
	rewrites       = metric("table_rewrites_total", "Maglev tables built and switched to.")
	rewriteSeconds = metric("table_rewrite_seconds_total", "Time that table rewrites took.")
	lastRewrite    = metric("table_last_rewrite_seconds", "Time that the latest table rewrite took.")
	slotsUsed      = metric("slots_used", "Slots of Maglev tables in use.")
	problems       = metric("problems", "Things that are wrong now; `sluice status` names them.")
)

// Describe declares nothing: the collector is unchecked, since its metrics depend on the services.
func (c statusCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the status.
func (c statusCollector) Collect(out chan<- prometheus.Metric) {
	status := c.status()
	emit := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	emit(buildInfo, prometheus.GaugeValue, 1, status.Version)
	emit(problems, prometheus.GaugeValue, float64(len(status.Problems)))
	for reason, count := range status.Reasons {
		kind, name, _ := strings.Cut(reason, "_")
		emit(ends[kind], prometheus.CounterValue, float64(count), name)
	}
	emit(rewrites, prometheus.CounterValue, float64(status.Tables.TableRewrites))
	emit(rewriteSeconds, prometheus.CounterValue, status.Tables.TotalRewrite.Seconds())
	emit(lastRewrite, prometheus.GaugeValue, status.Tables.LastRewrite.Seconds())
	emit(slotsUsed, prometheus.GaugeValue, float64(status.Tables.SlotsUsed))
	for i := range status.Services {
		status.Services[i].collect(emit)
	}
	for service, f := range c.latest() {
		emit(forecastFlows, prometheus.GaugeValue, f.P10, service, "0.1")
		emit(forecastFlows, prometheus.GaugeValue, f.P50, service, "0.5")
		emit(forecastFlows, prometheus.GaugeValue, f.P90, service, "0.9")
		emit(forecastSure, prometheus.GaugeValue, f.Confidence, service)
	}
	for _, s := range c.scale() {
		s.collect(emit)
	}
	emit(eventsLost, prometheus.CounterValue, float64(c.missed()))
	for of, count := range c.events() {
		emit(eventsCounted, prometheus.CounterValue, float64(count), of.service, of.backend, of.kind, of.to)
	}
}

func (s *ScaleStatus) collect(emit func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	emit(scaleWanted, prometheus.GaugeValue, float64(s.Wanted), s.Service)
	emit(scaleThere, prometheus.GaugeValue, float64(s.Backends), s.Service)
	emit(scaleReady, prometheus.GaugeValue, float64(s.Ready), s.Service)
	emit(scaleSure, prometheus.GaugeValue, s.Confidence, s.Service)
	emit(scalePredictive, prometheus.GaugeValue, oneIf(s.Predictive), s.Service)
	emit(scalePaused, prometheus.GaugeValue, oneIf(s.Paused != nil), s.Service)
	if s.Load != nil {
		emit(scaleLoad, prometheus.GaugeValue, *s.Load, s.Service)
	}
	if s.ServiceRate > 0 {
		emit(scaleRate, prometheus.GaugeValue, s.ServiceRate, s.Service)
	}
	if s.Resilience != nil {
		emit(scaleResilience, prometheus.GaugeValue, *s.Resilience, s.Service)
	}
}

func (s *ServiceStatus) collect(emit func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	for _, state := range []ServiceState{ServiceOK, ServiceDegraded, ServiceFailed, ServicePanic} {
		emit(serviceStates, prometheus.GaugeValue, oneIf(s.State == state), s.Name, string(state))
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		emit(backendPackets, prometheus.CounterValue, float64(b.Packets), s.Name, b.Name)
		emit(backendBytes, prometheus.CounterValue, float64(b.Bytes), s.Name, b.Name)
		emit(backendFlows, prometheus.CounterValue, float64(b.NewFlows), s.Name, b.Name)
		emit(backendReplies, prometheus.CounterValue, float64(b.Replies), s.Name, b.Name)
		emit(backendResolved, prometheus.GaugeValue, oneIf(b.NextHop.Resolved), s.Name, b.Name)
		emit(backendShare, prometheus.GaugeValue, b.Share, s.Name, b.Name)
		emit(backendScore, prometheus.GaugeValue, b.Score, s.Name, b.Name)
		emit(backendTerms, prometheus.GaugeValue, b.Terms.Success, s.Name, b.Name, "success")
		emit(backendTerms, prometheus.GaugeValue, b.Terms.Latency, s.Name, b.Name, "latency")
		emit(backendTerms, prometheus.GaugeValue, b.Terms.Handshakes, s.Name, b.Name, "handshakes")
		emit(backendTerms, prometheus.GaugeValue, b.Terms.Load, s.Name, b.Name, "load")
		emit(backendInForce, prometheus.GaugeValue, b.InForce, s.Name, b.Name)
		for desc, known := range map[*prometheus.Desc]Duration{probeLatency: b.ProbeLatency, handshakeTime: b.Handshake} {
			if known > 0 {
				emit(desc, prometheus.GaugeValue, time.Duration(known).Seconds(), s.Name, b.Name)
			}
		}
		emit(handshakeFails, prometheus.GaugeValue, b.HandshakesFailed, s.Name, b.Name)
		for _, state := range []State{StateUp, StateDraining, StateDown, StateStandby} {
			emit(backendStates, prometheus.GaugeValue, oneIf(b.State == state), s.Name, b.Name, string(state))
		}
	}
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
