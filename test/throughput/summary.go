package throughput

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluicelb/sluice/test/stage"
)

// samples are those of all rounds, one after another.
type samples map[Contender]map[Workload][]Sample

func (s samples) add(c Contender, w Workload, x Sample) {
	if s[c] == nil {
		s[c] = make(map[Workload][]Sample)
	}
	s[c][w] = append(s[c][w], x)
}

// Report is what was measured.
type Report struct {
	Rounds     int                               `json:"rounds"`
	Seconds    float64                           `json:"seconds"` // of each measurement
	Rest       stage.Spread                      `json:"rest"`    // part of all processors, 0..1, that is busy before the requests
	Contenders map[Contender]map[Workload]Result `json:"contenders"`
}

// Result sums up a workload of one contender. Ratios are of the rates of the same round; they are absent when what is
// compared with was not measured.
type Result struct {
	Rate         stage.Spread  `json:"rate"`                      // answered requests per second; Connections has one on each connection
	Gigabits     *stage.Spread `json:"gbit_per_second,omitempty"` // of answers' bodies; absent but for Bulk
	CPU          stage.Spread  `json:"cpu_us"`                    // for each request, µs of processors, of all that the whole machine does
	SoftIRQ      stage.Spread  `json:"softirq_us"`                // of that, in software interrupts
	VsForwarding *stage.Spread `json:"vs_forwarding,omitempty"`   // rate / Forwarding's
	VsNFTables   *stage.Spread `json:"vs_nftables,omitempty"`     // rate / NFTables'
	Requests     int64         `json:"requests"`                  // of all rounds
	Failed       int64         `json:"failed"`                    // must be 0
	Problem      string        `json:"problem,omitempty"`         // of the first that failed
}

// Broken says what must not be, or "".
func (r *Report) Broken() string {
	for _, c := range Contenders {
		for _, w := range Workloads {
			if x := r.Contenders[c][w]; x.Failed > 0 {
				return fmt.Sprintf("%d requests failed through %s (%s): %s", x.Failed, c, w, x.Problem)
			}
		}
	}
	return ""
}

func (s Sample) rate() float64 { return float64(s.Requests) / s.Seconds }

// cpu and softIRQ are µs for each request.
func (s Sample) cpu() float64     { return s.CPU * 1e6 / float64(max(s.Requests, 1)) }
func (s Sample) softIRQ() float64 { return s.SoftIRQ * 1e6 / float64(max(s.Requests, 1)) }

// gigabits are those of answers' bodies, in a second.
func (s Sample) gigabits(w Workload) float64 { return s.rate() * float64(workloads[w].size) * 8 / 1e9 }

// describe returns for example "8771 per second, 228.0 µs each".
func (s Sample) describe(w Workload) string {
	text := fmt.Sprintf("%.0f per second, %.1f µs each", s.rate(), s.cpu())
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d FAILED: %s", s.Failed, s.Problem)
	}
	return text
}

func summarize(o Options, rest []float64, all samples) Report {
	r := Report{Rounds: o.Rounds, Seconds: o.Duration.Seconds(), Rest: stage.SpreadOf(rest), Contenders: make(map[Contender]map[Workload]Result)}
	for c, byWorkload := range all {
		r.Contenders[c] = make(map[Workload]Result)
		for w, rounds := range byWorkload {
			r.Contenders[c][w] = sumUp(w, rounds, all)
		}
	}
	return r
}

func sumUp(w Workload, rounds []Sample, all samples) Result {
	x := Result{
		Rate:         spread(rounds, Sample.rate),
		CPU:          spread(rounds, Sample.cpu),
		SoftIRQ:      spread(rounds, Sample.softIRQ),
		VsForwarding: ratios(rounds, all[Forwarding][w]),
		VsNFTables:   ratios(rounds, all[NFTables][w]),
	}
	if w == Bulk {
		x.Gigabits = new(spread(rounds, func(s Sample) float64 { return s.gigabits(w) }))
	}
	for _, s := range rounds {
		x.Requests += s.Requests
		x.Failed += s.Failed
		if x.Problem == "" {
			x.Problem = s.Problem
		}
	}
	return x
}

// ratios compares rates round by round, which takes out what the machine does meanwhile: nil without a reference.
func ratios(rounds, reference []Sample) *stage.Spread {
	if len(reference) != len(rounds) {
		return nil
	}
	values := make([]float64, len(rounds))
	for i := range rounds {
		values[i] = rounds[i].rate() / reference[i].rate()
	}
	return new(stage.SpreadOf(values))
}

func spread(rounds []Sample, value func(Sample) float64) stage.Spread {
	values := make([]float64, len(rounds))
	for i, s := range rounds {
		values[i] = value(s)
	}
	return stage.SpreadOf(values)
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, load := range Workloads {
		if slices.ContainsFunc(Contenders, func(c Contender) bool { _, measured := r.Contenders[c][load]; return measured }) {
			r.writeTable(&b, load)
		}
	}
	fmt.Fprintf(&b, "\nBefore the requests %.0f %% of the processors' time were spent on something else, %.0f to %.0f %%.\n",
		r.Rest.Median*100, r.Rest.Lowest*100, r.Rest.Highest*100)
	_, err := io.WriteString(w, b.String())
	return err
}

// titles are what is counted in a second, in the tables.
var titles = map[Workload]string{Connections: "NEW CONNECTIONS/S", KeepAlive: "REQUESTS/S", Bulk: "GBIT/S"}

// writeTable prints one workload.
func (r *Report) writeTable(b *strings.Builder, w Workload) {
	fmt.Fprintf(b, "\n%-12s %18s  %-19s %-12s %-12s %10s %10s %7s\n",
		strings.ToUpper(string(w)), titles[w], "LOWEST TO HIGHEST", "/ FORWARDING", "/ NFTABLES", "CPU µS", "SOFTIRQ µS", "FAILED")
	for _, c := range Contenders {
		x, measured := r.Contenders[c][w]
		if !measured {
			continue
		}
		rate, digits := x.Rate, 0
		if x.Gigabits != nil {
			rate, digits = *x.Gigabits, 2
		}
		fmt.Fprintf(b, "%-12s %18.*f  %-19s %-12s %-12s %10.1f %10.1f %7d\n", c, digits, rate.Median,
			fmt.Sprintf("%.*f to %.*f", digits, rate.Lowest, digits, rate.Highest),
			ratio(x.VsForwarding), ratio(x.VsNFTables), x.CPU.Median, x.SoftIRQ.Median, x.Failed)
	}
}

// ratio is the median, "-" for none.
func ratio(s *stage.Spread) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", s.Median)
}
