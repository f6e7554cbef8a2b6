package main

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/history"
)

func newHistoryShowCommand(c *cli) *cobra.Command {
	var last time.Duration
	cmd := &cobra.Command{
		Use:               "show SERVICE",
		Short:             "Show what was measured of a service lately",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := recently(args[0], last)
			if err != nil {
				return err
			}
			points := []history.Point{}
			err = c.client().History(cmd.Context(), request, func(p history.Point) { points = append(points, p) })
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, points, func(p *page) { p.history(args[0], points, last) })
		},
	}
	lastFlag(cmd, &last, time.Hour)
	return outputFlag(cmd)
}

// history prints a line for each minute of which something is known.
func (p *page) history(service string, points []history.Point, last time.Duration) {
	if len(points) == 0 {
		p.line("nothing was measured of service %s in the last %s", service, last)
		return
	}
	t := newTable("MINUTE", "NEW FLOWS", "PACKETS", "BYTES", "FLOWS", "BACKENDS", "HANDSHAKE", "SYNS AGAIN", "ERRORS")
	for _, point := range points {
		row := []any{point.Time.Local().Format("2006-01-02 15:04")}
		for c, v := range point.Row {
			row = append(row, measured(history.Column(c), float64(v)))
		}
		t.add(row...)
	}
	p.table(t)
}

// measured is a figure in its unit, or "-" where it is absent.
func measured(c history.Column, v float64) cell {
	switch {
	case math.IsNaN(v):
		return cell{text: "-", right: true}
	case c == history.Handshake:
		return cell{text: fmt.Sprintf("%.1fms", 1000*v), right: true}
	case c == history.Retransmissions, c == history.Errors:
		return percentOf(v, 1)
	}
	return number(v)
}
