package controlplane

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// Report is what was measured.
type Report struct {
	Services int               `json:"services"`
	Backends int               `json:"backends"` // of each service
	Rounds   int               `json:"rounds"`
	Probes   map[Probes]Result `json:"probes"`
}

// Result sums up the rounds with one kind of probes. Times are in ms, memory in MiB.
type Result struct {
	ApplyMS  Range           `json:"apply_ms"` // from the API call to its answer, when the kernel has all tables
	Switched int             `json:"switched"` // services that have a table then; must be all
	Changes  map[Kind]Change `json:"changes"`
	AdoptMS  Range           `json:"adopt_ms"` // from the start of a new daemon until it is ready
	Rebuilt  int             `json:"rebuilt"`  // services that have another table than before, in all rounds; without probes none
	First    Usage           `json:"first"`    // of the daemon that made everything, after all changes
	Second   Usage           `json:"second"`   // of the one that adopted it
}

// Change is how long changes of one kind took, of all rounds.
type Change struct {
	Count    int             `json:"count"`
	LiveMS   stage.Quantiles `json:"live_ms"`   // from the API call until packets see the new table
	AnswerMS stage.Quantiles `json:"answer_ms"` // until the API's answer
}

// Usage is what a daemon takes that is left alone.
type Usage struct {
	ResidentMiB  Range `json:"resident_mib"`  // all that is in memory
	MapsMiB      Range `json:"maps_mib"`      // of that the kernel's tables, which are there without it as well
	OwnMiB       Range `json:"own_mib"`       // of that its heap and stacks
	PeakMiB      Range `json:"peak_mib"`      // the most that was in memory since its start
	ProcessorPct Range `json:"processor_pct"` // of one processor
}

// Range is of one figure of each round.
type Range struct {
	Median  float64 `json:"median"`
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
}

func rangeOf(rounds []round, figure func(*round) float64) Range {
	values := make([]float64, len(rounds))
	for i := range rounds {
		values[i] = math.Round(figure(&rounds[i])*10) / 10
	}
	slices.Sort(values)
	return Range{Median: values[len(values)/2], Lowest: values[0], Highest: values[len(values)-1]}
}

// Broken says what must not be, or "".
func (r *Report) Broken() string {
	for _, probes := range slices.Sorted(maps.Keys(r.Probes)) {
		switch x := r.Probes[probes]; {
		case x.Switched != r.Services:
			return fmt.Sprintf("%d of %d services had a table when the daemon had answered (probes %s)", x.Switched, r.Services, probes)
		case x.Rebuilt > 0 && probes == NoProbes:
			return fmt.Sprintf("%d services had another table after a restart (probes %s)", x.Rebuilt, probes)
		}
	}
	return ""
}

// summarize sums up rounds, of which there is at least one.
func summarize(rounds []round) Result {
	result := Result{
		ApplyMS:  rangeOf(rounds, func(r *round) float64 { return stage.Milliseconds(r.apply) }),
		AdoptMS:  rangeOf(rounds, func(r *round) float64 { return stage.Milliseconds(r.adopt) }),
		Switched: rounds[0].switched,
		Changes:  make(map[Kind]Change),
		First:    usage(rounds, 0),
		Second:   usage(rounds, 1),
	}
	all := make(map[Kind]*latencies)
	for i := range rounds {
		result.Switched = min(result.Switched, rounds[i].switched)
		result.Rebuilt += rounds[i].rebuilt
		for kind, l := range rounds[i].changes {
			if all[kind] == nil {
				all[kind] = new(latencies)
			}
			all[kind].live, all[kind].answer = append(all[kind].live, l.live...), append(all[kind].answer, l.answer...)
		}
	}
	for kind, l := range all {
		result.Changes[kind] = l.change()
	}
	return result
}

func (l *latencies) change() Change {
	return Change{Count: len(l.live), LiveMS: stage.QuantilesOf(l.live), AnswerMS: stage.QuantilesOf(l.answer)}
}

// usage is that of the first or the second daemon of each round.
func usage(rounds []round, daemon int) Usage {
	return Usage{
		ResidentMiB:  rangeOf(rounds, func(r *round) float64 { return r.memory[daemon].resident }),
		MapsMiB:      rangeOf(rounds, func(r *round) float64 { return r.memory[daemon].maps }),
		OwnMiB:       rangeOf(rounds, func(r *round) float64 { return r.memory[daemon].own }),
		PeakMiB:      rangeOf(rounds, func(r *round) float64 { return r.memory[daemon].peak }),
		ProcessorPct: rangeOf(rounds, func(r *round) float64 { return 100 * r.idle[daemon] }),
	}
}

// String returns for example "applied in 2310 ms, one change in 11 ms, adopted in 902 ms, 141 MiB".
func (r *round) String() string {
	return fmt.Sprintf("applied in %v, a weight changed in %.1f ms, adopted in %v, %.0f MiB resident",
		r.apply.Round(time.Millisecond), r.changes[Weight].change().LiveMS.P50, r.adopt.Round(time.Millisecond), r.memory[1].resident)
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d services x %d backends, %d rounds\n", r.Services, r.Backends, r.Rounds)
	for _, probes := range AllProbes {
		x, measured := r.Probes[probes]
		if !measured {
			continue
		}
		fmt.Fprintf(&b, "\nPROBES %-23s %9s %9s %9s\n", probes, "MEDIAN", "LOWEST", "HIGHEST")
		x.ApplyMS.write(&b, "applied, ms")
		x.AdoptMS.write(&b, "adopted, ms")
		for i, u := range []Usage{x.First, x.Second} {
			after := []string{"changes", "adoption"}[i]
			u.ResidentMiB.write(&b, "resident after "+after+", MiB")
			u.MapsMiB.write(&b, "  kernel's tables")
			u.OwnMiB.write(&b, "  heap and stacks")
			u.PeakMiB.write(&b, "  at most before")
			u.ProcessorPct.write(&b, "  processor, %")
		}
		fmt.Fprintf(&b, "%-30s %9s %9s %9s\n", "ONE CHANGE, MS", "P50", "P99", "MAX")
		for _, kind := range Kinds {
			for _, row := range []struct {
				name string
				q    stage.Quantiles
			}{{"live", x.Changes[kind].LiveMS}, {"answered", x.Changes[kind].AnswerMS}} {
				fmt.Fprintf(&b, "%-30s %9.1f %9.1f %9.1f\n", string(kind)+", "+row.name, row.q.P50, row.q.P99, row.q.Max)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Range) write(b *strings.Builder, name string) {
	fmt.Fprintf(b, "%-30s %9.1f %9.1f %9.1f\n", name, r.Median, r.Lowest, r.Highest)
}
