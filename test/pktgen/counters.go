package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// counters are what Sluice has counted, of all its services.
type counters struct {
	Forwarded uint64            `json:"forwarded"`
	Ends      map[string]uint64 `json:"ends,omitempty"` // other ends of packets, by their reason, such as drop_no_backend
}

// scrape reads Sluice's metrics.
func scrape(ctx context.Context, url string) (counters, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return counters{}, fmt.Errorf("--metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return counters{}, fmt.Errorf("--metrics: %w; `metrics.address` of Sluice's configuration says where they are", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return counters{}, fmt.Errorf("--metrics: %s answers %s", url, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return counters{}, fmt.Errorf("--metrics: %s: %w", url, err)
	}
	if families["sluice_build_info"] == nil {
		return counters{}, fmt.Errorf("--metrics: what %s answers are not Sluice's metrics", url)
	}
	return count(families), nil
}

// count sums up the metrics (control/metrics.go).
func count(families map[string]*dto.MetricFamily) counters {
	c := counters{Ends: make(map[string]uint64)}
	for _, m := range families["sluice_backend_packets_total"].GetMetric() {
		c.Forwarded += uint64(m.GetCounter().GetValue())
	}
	for kind, name := range map[string]string{"pass": "passes", "drop": "drops", "answer": "answers"} {
		for _, m := range families["sluice_"+name+"_total"].GetMetric() {
			c.Ends[kind+"_"+m.GetLabel()[0].GetValue()] = uint64(m.GetCounter().GetValue())
		}
	}
	return c
}

// since returns what was counted between two readings.
func (c counters) since(before counters) *counters {
	d := &counters{Forwarded: c.Forwarded - before.Forwarded, Ends: make(map[string]uint64)}
	for reason, n := range c.Ends {
		if n > before.Ends[reason] {
			d.Ends[reason] = n - before.Ends[reason]
		}
	}
	return d
}
