package failover

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// Report is what was measured.
type Report struct {
	Profiles       map[string]map[Fault]Result `json:"profiles"`
	HAProxy        map[Fault]Result            `json:"haproxy,omitempty"` // in the place of Sluice
	FalseEjections *Ejections                  `json:"false_ejections,omitempty"`
}

// Result sums up the trials of one fault. A fault that was not detected counts as detected after detectWithin.
type Result struct {
	Trials     int       `json:"trials"`
	DetectMS   Quantiles `json:"detect_ms"` // from the fault until the backend has half of its part or less
	GapMS      Quantiles `json:"gap_ms"`    // from the fault to the begin of the last new connection that failed
	Failed     int       `json:"failed"`    // new connections, in all trials
	Disturbed  int       `json:"disturbed"` // long-lived connections of other backends; must be 0
	Undetected int       `json:"undetected,omitempty"`
}

// Quantiles of times in milliseconds.
type Quantiles = stage.Quantiles

// Ejections is the outcome of the run without faults.
type Ejections struct {
	Minutes float64 `json:"minutes"`
	Count   int     `json:"count"` // changes of a backend's state; must be 0
}

// Broken says what must not be, or "".
func (r *Report) Broken() string {
	for name, results := range r.named() {
		for _, f := range Faults {
			if n := results[f].Disturbed; n > 0 && name != haproxyName {
				return fmt.Sprintf("%d long-lived connections of other backends were disturbed by the fault %s, profile %s", n, f, name)
			}
		}
	}
	if r.FalseEjections != nil && r.FalseEjections.Count > 0 {
		return fmt.Sprintf("%d changes of state without a fault", r.FalseEjections.Count)
	}
	return ""
}

// haproxyName is what HAProxy's results are called beside those of the profiles.
const haproxyName = "haproxy"

// named are the results of all contenders.
func (r *Report) named() map[string]map[Fault]Result {
	all := maps.Clone(r.Profiles)
	if r.HAProxy != nil {
		all[haproxyName] = r.HAProxy
	}
	return all
}

// summarize sums up the trials of one fault.
func summarize(trials []trial) Result {
	r := Result{Trials: len(trials)}
	detect, gap := make([]time.Duration, len(trials)), make([]time.Duration, len(trials))
	for i, t := range trials {
		detect[i], gap[i] = t.detect, t.gap
		if !t.detected {
			detect[i] = detectWithin
			r.Undetected++
		}
		r.Failed += t.failed
		r.Disturbed += t.disturbed
	}
	r.DetectMS, r.GapMS = stage.QuantilesOf(detect), stage.QuantilesOf(gap)
	return r
}

// String returns for example "detected after 142 ms, 17 connections failed, the last began after 139 ms: i/o timeout".
func (t trial) String() string {
	text := fmt.Sprintf("not detected within %v", detectWithin)
	if t.detected {
		text = fmt.Sprintf("detected after %.0f ms", stage.Milliseconds(t.detect))
	}
	if t.failed > 0 {
		text += fmt.Sprintf(", %d connections failed, the last began after %.0f ms: %v", t.failed, stage.Milliseconds(t.gap), t.cause)
	}
	if t.disturbed > 0 {
		text += fmt.Sprintf(", %d OF OTHER BACKENDS DISTURBED", t.disturbed)
	}
	return text
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	all := r.named()
	if len(all) > 0 {
		fmt.Fprintf(&b, "\n%-8s %-10s %6s  %-23s  %s\n", "", "", "", "DETECTED AFTER MS", "LAST FAILURE AFTER MS")
		fmt.Fprintf(&b, "%-8s %-10s %6s  %s  %s %7s %9s\n", "PROFILE", "FAULT", "TRIALS", quantileHeader, quantileHeader, "FAILED", "DISTURBED")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, f := range Faults {
			if x, measured := all[name][f]; measured {
				fmt.Fprintf(&b, "%-8s %-10s %6d  %s  %s %7d %9d\n", name, f, x.Trials, detection(x.DetectMS), columns(x.GapMS), x.Failed, x.Disturbed)
			}
		}
	}
	if e := r.FalseEjections; e != nil {
		fmt.Fprintf(&b, "\n%d changes of state in %.4g minutes without a fault\n", e.Count, e.Minutes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const quantileHeader = "    P50     P99     MAX"

// columns returns the three numbers.
func columns(q Quantiles) string { return fmt.Sprintf("%7.0f %7.0f %7.0f", q.P50, q.P99, q.Max) }

// detection is columns, with ">5000" for what was not detected.
func detection(q Quantiles) string {
	var texts []string
	for _, ms := range []float64{q.P50, q.P99, q.Max} {
		text := fmt.Sprintf("%.0f", ms)
		if ms >= stage.Milliseconds(detectWithin) {
			text = fmt.Sprintf(">%.0f", stage.Milliseconds(detectWithin))
		}
		texts = append(texts, fmt.Sprintf("%7s", text))
	}
	return strings.Join(texts, " ")
}
