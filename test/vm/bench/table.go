package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// table collects measurements; its rows are in the order in which they first came.
type table struct{ rows []*row }

type row struct {
	name    string
	flows   int
	arrived []float64 // packets per second
	lost    []float64
}

func (t *table) add(name string, flows int, m measurement) {
	i := slices.IndexFunc(t.rows, func(r *row) bool { return r.name == name && r.flows == flows })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &row{name: name, flows: flows})
	}
	t.rows[i].arrived = append(t.rows[i].arrived, m.arrived)
	t.rows[i].lost = append(t.rows[i].lost, m.lost)
}

// write prints the medians with their spread. Compared is with the first row that has as many flows.
func (t *table) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %7s %11s %23s %10s %7s\n", "", "FLOWS", "PACKETS/S", "LOWEST TO HIGHEST", "RELATIVELY", "LOST")
	var first *row
	for _, r := range t.rows {
		if first == nil || first.flows != r.flows {
			first = r
		}
		fmt.Fprintf(&b, "%-24s %7d %11.0f %11.0f %11.0f %10.2f %5.1f %%\n", r.name, r.flows, median(r.arrived),
			slices.Min(r.arrived), slices.Max(r.arrived), median(r.arrived)/median(first.arrived), median(r.lost)*100)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// median is the upper one of an even number.
func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }
