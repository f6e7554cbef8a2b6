package load

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// offer is a server of metrics.
func offer(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(server.Listener.Addr().String())
}

// offerText offers metrics as they are given.
func offerText(t *testing.T, text string) netip.AddrPort {
	return offer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func of(metric string) Spec { return Spec{Kind: Prometheus, Metric: metric} }

const metrics = `# HELP busy_workers Workers that have a request.
# TYPE busy_workers gauge
busy_workers{pool="web",zone="a"} 3
busy_workers{pool="web",zone="b"} 5
busy_workers{pool="mail",zone="a"} 100 1700000000000
load1 0.25
# TYPE requests_total counter
requests_total 7
# TYPE latency histogram
latency_bucket{le="+Inf"} 1
latency_sum 1
latency_count 1
# TYPE temperature gauge
temperature -4
nothing NaN
everything +Inf
`

func TestMetric(t *testing.T) {
	to := offerText(t, metrics)
	for spec, load := range map[Spec]float64{
		of("load1"):                               0.25,
		of("busy_workers"):                        108,
		of(`busy_workers{pool="web"}`):            8,
		of(`busy_workers{zone="b", pool="web",}`): 5,
		{Kind: Prometheus, Metric: `busy_workers{pool="web"}`, Full: 16}:      0.5,
		{Kind: Prometheus, Metric: "load1", Path: "/other?x=y", Full: 0.0625}: 4,
	} {
		reports(t, spec, to, Report{Load: &load})
	}
	fails(t, of("absent"), to, "there is no absent among 7 metrics")
	fails(t, of(`busy_workers{pool="ftp"}`), to, `there is no busy_workers{pool="ftp"} among 7 metrics`)
	fails(t, of(`busy_workers{rack=""}`), to, "there is no busy_workers")
	fails(t, of("requests_total"), to, "requests_total is a counter, which does not tell a load: name a gauge")
	fails(t, of("latency"), to, "latency is a histogram")
	fails(t, of("temperature"), to, "temperature is -4, which is no load")
	fails(t, of("nothing"), to, "nothing is NaN, which is no load")
	fails(t, of("everything"), to, "everything is +Inf, which is no load")
}

// What Prometheus' own library offers is understood, whatever else it could have offered.
func TestMetricOfTheClientLibrary(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "busy_workers", Help: "Busy."}, []string{"pool"})
	registry.MustRegister(gauge)
	gauge.WithLabelValues("a \"b\"\n").Set(12)
	paths := make(chan string, 1)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	to := offer(t, func(w http.ResponseWriter, r *http.Request) {
		paths <- r.RequestURI + " " + r.Host
		handler.ServeHTTP(w, r)
	})
	reports(t, of(`busy_workers{pool="a \"b\"\n"}`), to, Report{Load: new(12.0)})
	if got, want := <-paths, "/metrics "+to.String(); got != want {
		t.Errorf("it was asked for %s, want %s", got, want)
	}
}

func TestMetricsThatAreNone(t *testing.T) {
	fails(t, of("a"), offer(t, http.NotFound), "status 404 is not 200")
	fails(t, of("a"), offerText(t, "<html>"), "metrics: text format parsing error in line 1")
	fails(t, of("a"), offerText(t, "a 1"), "metrics: text format parsing error in line 1: unexpected end of input stream")
	fails(t, of("a"), offerText(t, ""), "there is no a among 0 metrics")
	fails(t, of("a"), listen(t, loopbacks[0], say("SSH-2.0-x\r\n")), "response: malformed HTTP")
	fails(t, of("a"), offerText(t, strings.Repeat("# "+strings.Repeat("x", 1<<10)+"\n", (metricsLimit+headerLimit)>>10)), "more than 4 MiB")
}

func TestMetricsThatAreCut(t *testing.T) {
	const header = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\n"
	fails(t, of("a"), listen(t, loopbacks[1], func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, header)
	}), "metrics: connection closed")
	_, err := readWithin(t, 250*time.Millisecond, of("a"), listen(t, loopbacks[1], say(header)))
	if err == nil || err.Error() != "metrics: no answer" {
		t.Errorf("metrics that stop ended with %v", err)
	}
}
