package packetcost

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/sluicelb/sluice/test/stage"
)

// Report is what was measured: medians over all rounds.
type Report struct {
	EmptyNS   float64 `json:"empty_ns"` // of the program that does nothing: what measuring costs
	EncapNS   float64 `json:"encap_ns"` // of the one that only encapsulates
	EmptyMpps float64 `json:"empty_mpps"`
	EncapMpps float64 `json:"encap_mpps"`
	Rows      []Row   `json:"rows"`
}

// Row is the balancer in one case.
type Row struct {
	Case
	NS         float64 `json:"ns"`         // of the program for one packet, as the kernel measures it
	NetNS      float64 `json:"net_ns"`     // the same without what the empty program takes
	Ratio      float64 `json:"ratio"`      // NS / EmptyNS
	Mpps       float64 `json:"mpps"`       // millions of packets in a second, generated, balanced and sunk by one processor
	Spread     float64 `json:"spread"`     // (highest - lowest) / median of NS
	Remembered int     `json:"remembered"` // entries of the flow table in the end
}

func newReport(outcomes []outcome) (r Report) {
	floor := func(lane int) (ns, mpps float64) {
		var all []sample
		for _, o := range outcomes {
			all = append(all, o.samples[lane]...)
		}
		return medians(all)
	}
	r.EmptyNS, r.EmptyMpps = floor(laneEmpty)
	r.EncapNS, r.EncapMpps = floor(laneEncapsulator)
	for _, o := range outcomes {
		row := Row{Case: o.Case, Remembered: o.remembered, Spread: spread(o.samples[laneBalancer])}
		row.NS, row.Mpps = medians(o.samples[laneBalancer])
		row.NetNS, row.Ratio = round(row.NS-r.EmptyNS, 1), round(row.NS/r.EmptyNS, 3)
		r.Rows = append(r.Rows, row)
	}
	return r
}

// medians returns the medians of the samples.
func medians(samples []sample) (ns, mpps float64) {
	var all, rates []float64
	for _, x := range samples {
		all, rates = append(all, x.ns), append(rates, x.mpps)
	}
	return round(stage.SpreadOf(all).Median, 1), round(stage.SpreadOf(rates).Median, 3)
}

func spread(samples []sample) float64 {
	var all []float64
	for _, x := range samples {
		all = append(all, x.ns)
	}
	s := stage.SpreadOf(all)
	return round((s.Highest-s.Lowest)/s.Median, 3)
}

func round(value float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(value*unit) / unit
}

// String returns for example "150.3 ns, 2.6 times an empty program; 1.94 million packets/s".
func (o outcome) String() string {
	ns, mpps := medians(o.samples[laneBalancer])
	empty, _ := medians(o.samples[laneEmpty])
	return fmt.Sprintf("%.1f ns, %.2f times an empty program; %.2f million packets/s", ns, ns/empty, mpps)
}

// columns are the headings of the tables that people read.
var columns = []string{"family", "mode", "traffic", "tracking", "flows", "ns", "net ns", "ratio", "spread", "million packets/s", "remembered"}

// Broken returns "": a packet that does not go where it should is an error of Run already.
func (r *Report) Broken() string { return "" }

// cells are the lines below them, the floors first.
func (r *Report) cells() [][]string {
	floor := func(name string, ns, mpps float64) []string {
		return []string{name, "", "", "", "", fmt.Sprintf("%.1f", ns), fmt.Sprintf("%.1f", ns-r.EmptyNS),
			fmt.Sprintf("%.2f", ns/r.EmptyNS), "", fmt.Sprintf("%.2f", mpps), ""}
	}
	lines := [][]string{floor("empty", r.EmptyNS, r.EmptyMpps), floor("encapsulate", r.EncapNS, r.EncapMpps)}
	for _, x := range r.Rows {
		lines = append(lines, []string{
			string(x.Family), x.Mode.String(), string(x.Traffic), x.Tracking.String(), fmt.Sprint(x.Flows), fmt.Sprintf("%.1f", x.NS),
			fmt.Sprintf("%.1f", x.NetNS), fmt.Sprintf("%.2f", x.Ratio), fmt.Sprintf("%.0f %%", 100*x.Spread),
			fmt.Sprintf("%.2f", x.Mpps), fmt.Sprint(x.Remembered),
		})
	}
	return lines
}

// firstNumber is the first column that is aligned on the right.
const firstNumber = 4

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	lines := append([][]string{upper(columns)}, r.cells()...)
	widths := make([]int, len(columns))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], len(text))
		}
	}
	for i := range firstNumber {
		widths[i] = -widths[i] // aligned on the left
	}
	var b strings.Builder
	for _, line := range lines {
		var padded strings.Builder
		for i, text := range line {
			fmt.Fprintf(&padded, "%*s  ", widths[i], text)
		}
		fmt.Fprintln(&b, strings.TrimRight(padded.String(), " "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func upper(texts []string) (all []string) {
	for _, text := range texts {
		all = append(all, strings.ToUpper(text))
	}
	return all
}

// WriteMarkdown prints the report as a table of Markdown.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s%s\n", strings.Join(columns, " | "),
		strings.Repeat(" --- |", firstNumber), strings.Repeat(" ---: |", len(columns)-firstNumber))
	for _, line := range r.cells() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
