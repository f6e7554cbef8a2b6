package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sluicelb/sluice/brain/health/probe"
)

// Limits in bytes of what is read: the response's header, and with it the metrics.
const (
	headerLimit  = 64 << 10
	metricsLimit = 4 << 20
)

// metric is what of a backend's metrics is its load. Their format is described in
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type metric struct {
	url    *url.URL
	name   string
	labels []*dto.LabelPair // that it must have
	text   string           // name and labels as they were given
	full   float64
}

func preparePrometheus(s Spec) (read, *probe.FieldError) {
	m := &metric{text: s.Metric, full: s.Full}
	if m.full == 0 {
		m.full = 1
	}
	if s.Path == "" {
		s.Path = "/metrics"
	}
	var err error
	if m.url, err = url.ParseRequestURI(s.Path); err != nil || !strings.HasPrefix(s.Path, "/") {
		return nil, &probe.FieldError{Field: "path", Problem: fmt.Sprintf("%q is no path such as /metrics?name=load", s.Path)}
	}
	if m.name, m.labels, err = parseSelector(s.Metric); err != nil {
		return nil, &probe.FieldError{Field: "metric", Problem: err.Error()}
	}
	return m.read, nil
}

// parseSelector reads a name with labels as a sample with the value 0, which has the same syntax.
func parseSelector(text string) (name string, labels []*dto.LabelPair, err error) {
	families, err := parse(strings.NewReader(text + " 0\n"))
	for name, family := range families {
		sample := family.GetMetric()[0]
		if err == nil && !strings.Contains(text, "\n") && sample.TimestampMs == nil {
			return name, sample.GetLabel(), nil
		}
	}
	return "", nil, fmt.Errorf("%q is no metric such as busy_workers or busy_workers{pool=\"web\"}", text)
}

func parse(text io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(text)
}

func (m *metric) read(ctx context.Context, to netip.AddrPort, via probe.Dialer) (Report, error) {
	conn, err := via.Dial(ctx, "tcp", to)
	if err != nil {
		return Report{}, &probe.Failure{Step: "connect", Cause: err}
	}
	defer conn.Close()
	request := m.request(to)
	if err := request.Write(conn); err != nil {
		return Report{}, &probe.Failure{Step: "request", Cause: err}
	}
	rest := &io.LimitedReader{R: conn, N: headerLimit + metricsLimit}
	response, err := http.ReadResponse(bufio.NewReader(rest), request)
	if err != nil {
		return Report{}, &probe.Failure{Step: "response", Cause: err}
	}
	if response.StatusCode != http.StatusOK {
		return Report{}, fmt.Errorf("status %d is not 200", response.StatusCode)
	}
	families, err := parse(response.Body)
	switch {
	case rest.N <= 0:
		return Report{}, fmt.Errorf("there are more than %d MiB of metrics: choose a path with fewer", metricsLimit>>20)
	case err != nil:
		return Report{}, &probe.Failure{Step: "metrics", Cause: err}
	}
	return m.report(families)
}

// request asks for the text format, uncompressed, and ends the connection.
func (m *metric) request(to netip.AddrPort) *http.Request {
	return &http.Request{
		Method: http.MethodGet, URL: m.url, Close: true,
		Host:   netip.AddrPortFrom(to.Addr().WithZone(""), to.Port()).String(),
		Header: http.Header{"User-Agent": {"sluice"}, "Accept": {"text/plain;version=" + expfmt.TextVersion}},
	}
}

// report sums the samples that match.
func (m *metric) report(families map[string]*dto.MetricFamily) (Report, error) {
	var sum float64
	matches := 0
	for _, sample := range families[m.name].GetMetric() {
		if !m.matches(sample) {
			continue
		}
		switch matches++; {
		case sample.Gauge != nil:
			sum += sample.GetGauge().GetValue()
		case sample.Untyped != nil:
			sum += sample.GetUntyped().GetValue()
		default:
			return Report{}, fmt.Errorf("%s is a %s, which does not tell a load: name a gauge",
				m.name, strings.ToLower(families[m.name].GetType().String()))
		}
	}
	switch load := sum / m.full; {
	case matches == 0:
		return Report{}, fmt.Errorf("there is no %s among %d metrics", m.text, len(families))
	case math.IsNaN(load) || math.IsInf(load, 0) || load < 0:
		return Report{}, fmt.Errorf("%s is %v, which is no load", m.text, sum)
	default:
		return Report{Load: &load}, nil
	}
}

// matches says whether a sample has all the labels.
func (m *metric) matches(sample *dto.Metric) bool {
	has := make(map[string]string)
	for _, label := range sample.GetLabel() {
		has[label.GetName()] = label.GetValue()
	}
	for _, label := range m.labels {
		if value, present := has[label.GetName()]; !present || value != label.GetValue() {
			return false
		}
	}
	return true
}
