package p2c

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
)

// Report is what was measured, and of what.
type Report struct {
	Mode     dataplane.Mode              `json:"mode"`
	Probe    probe.Kind                  `json:"probe"`
	Backends int                         `json:"backends"`
	Slow     float64                     `json:"slow"`      // how many times longer one of them takes
	Rate     float64                     `json:"rate"`      // requests a second on average
	SlowBusy float64                     `json:"slow_busy"` // part of the time that the slow one is busy with an equal share; from 1 on its queue grows
	Seconds  float64                     `json:"seconds"`   // of each round
	Rounds   int                         `json:"rounds"`    // of each policy
	Policies map[dataplane.Policy]Result `json:"policies"`
	P99Ratio stage.Spread                `json:"p99_ratio"` // of p2c to maglev, in rounds with the same arrivals
}

// Result sums up the rounds of one policy. A request that failed counts as answered after requestTimeout.
type Result struct {
	Requests   int          `json:"requests"` // in all rounds
	Failed     int          `json:"failed"`   // of them; must be 0
	Late       int          `json:"late"`     // that began more than lateAfter after they were due
	P50MS      stage.Spread `json:"p50_ms"`   // of the time from when a request was due until it was answered
	P99MS      stage.Spread `json:"p99_ms"`
	SlowShare  stage.Spread `json:"slow_share"` // part of the requests that the slow backend answered, 0..1
	Remembered stage.Spread `json:"remembered"` // flows in the table at the end of a round / connections made in it
	Left       int          `json:"left"`       // flows that p2c counts as in progress after the last of a round is over, in all rounds
}

// summarize sums up all rounds, as many of each policy.
func (o Options) summarize(rounds map[dataplane.Policy][]round) Report {
	report := Report{
		Mode: o.Mode, Probe: o.Probe, Backends: o.Backends, Slow: o.Slow, Rate: o.Rate, SlowBusy: to3(o.slowBusy()),
		Seconds: o.Duration.Seconds(), Rounds: o.Rounds, Policies: make(map[dataplane.Policy]Result),
	}
	p99 := func(r round) float64 { return milliseconds(r.took(), 0.99) }
	for policy, each := range rounds {
		result := Result{
			P50MS:      over(each, func(r round) float64 { return milliseconds(r.took(), 0.5) }),
			P99MS:      over(each, p99),
			SlowShare:  over(each, round.slowShare),
			Remembered: over(each, round.rememberedShare),
		}
		for _, r := range each {
			result.Requests += len(r.requests)
			result.Failed += len(r.failures())
			result.Late += r.late()
			result.Left += r.left
		}
		report.Policies[policy] = result
	}
	var ratios []float64
	for i, r := range rounds[dataplane.PolicyP2C] {
		ratios = append(ratios, to3(p99(r)/p99(rounds[dataplane.PolicyMaglev][i])))
	}
	report.P99Ratio = stage.SpreadOf(ratios)
	return report
}

// over is the spread of a figure over rounds.
func over(rounds []round, figure func(round) float64) stage.Spread {
	var values []float64
	for _, r := range rounds {
		values = append(values, figure(r))
	}
	return stage.SpreadOf(values)
}

func milliseconds(sorted []time.Duration, part float64) float64 {
	return stage.Milliseconds(stage.NearestRank(sorted, part))
}

// to3 rounds to three decimals.
func to3(x float64) float64 { return math.Round(x*1000) / 1000 }

// slowShare is of all requests, 0..1.
func (r round) slowShare() float64 {
	count := 0
	for _, each := range r.requests {
		if each.backend == slowName {
			count++
		}
	}
	return to3(float64(count) / float64(len(r.requests)))
}

// rememberedShare is of all connections, 0..1.
func (r round) rememberedShare() float64 {
	return to3(float64(r.remembered) / float64(len(r.requests)))
}

// String returns for example "p50 4.1 ms, p99 61.5 ms; 9.9 % of 10012 requests to the slow one, 46.0 % remembered".
func (r round) String() string {
	took := r.took()
	text := fmt.Sprintf("p50 %.1f ms, p99 %.1f ms; %.1f %% of %d requests to the slow one, %.1f %% remembered", milliseconds(took, 0.5),
		milliseconds(took, 0.99), r.slowShare()*100, len(r.requests), r.rememberedShare()*100)
	if failed := r.failures(); len(failed) > 0 {
		text += fmt.Sprintf(", %d FAILED: %v", len(failed), failed[0].err)
	}
	return text
}

// Broken says what must not be, or "".
func (r *Report) Broken() string {
	for _, policy := range policies {
		if result := r.Policies[policy]; result.Failed > 0 {
			return fmt.Sprintf("%d of %d requests had no answer with policy %s: see above why, or lower --rate", result.Failed, result.Requests, policy)
		}
	}
	return ""
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d backends, one of which takes %g times longer; %g requests/s, of which an equal share keeps it %.0f %% busy; mode %s, probe %s\n",
		r.Backends, r.Slow, r.Rate, r.SlowBusy*100, r.Mode, r.Probe)
	fmt.Fprintf(&b, "rounds of %g s, %d of each policy: medians, lowest to highest\n\n", r.Seconds, r.Rounds)
	fmt.Fprintf(&b, "%-7s %9s %7s %5s  %-21s %-23s %-22s %s\n", "POLICY", "REQUESTS", "FAILED", "LATE", "P50 MS", "P99 MS", "TO THE SLOW ONE %", "REMEMBERED %")
	for _, policy := range policies {
		x := r.Policies[policy]
		fmt.Fprintf(&b, "%-7s %9d %7d %5d  %-21v %-23v %-22v %v\n",
			policy, x.Requests, x.Failed, x.Late, x.P50MS, x.P99MS, percent(x.SlowShare), percent(x.Remembered))
	}
	fmt.Fprintf(&b, "\np99 of p2c / p99 of maglev: %.2f (%.2f to %.2f)\n", r.P99Ratio.Median, r.P99Ratio.Lowest, r.P99Ratio.Highest)
	_, err := io.WriteString(w, b.String())
	return err
}

// percent is that of parts, 0..1.
func percent(s stage.Spread) stage.Spread {
	return stage.Spread{Median: s.Median * 100, Lowest: s.Lowest * 100, Highest: s.Highest * 100}
}
