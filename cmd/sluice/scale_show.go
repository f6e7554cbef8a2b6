package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newScaleShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show [SERVICE]",
		Short:             "Show how many backends services shall have, and why",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := c.client().Scale(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.show(cmd, all, func(p *page) { p.scaling(all) })
			}
			s, err := c.client().Service(cmd.Context(), args[0])
			if err != nil {
				return noService(err)
			}
			for i := range all {
				if all[i].Service == s.Name {
					return c.show(cmd, all[i], func(p *page) { p.scalingOf(&all[i]) })
				}
			}
			if s.Scaling != (control.Scaling{}) {
				return fmt.Errorf("nothing is decided about service %s yet: try again in some seconds", s.Name)
			}
			return fmt.Errorf("service %s does not scale: `sluice scale set` has it do so", s.Name)
		},
	}
	return outputFlag(cmd)
}

func (p *page) scaling(all []control.ScaleStatus) {
	if len(all) == 0 {
		p.line("no service scales: `sluice scale set` has one do so")
		return
	}
	t := newTable("SERVICE", "BACKENDS", "READY", "WANTED", "LOAD", "BY", "EXECUTOR", "WHY")
	for i := range all {
		s := &all[i]
		t.add(s.Service, number(float64(s.Backends)), number(float64(s.Ready)), number(float64(s.Wanted)), loadOf(s), decidedBy(s), executorOf(s), whyOf(s))
	}
	p.table(t)
}

func loadOf(s *control.ScaleStatus) cell {
	if s.Load == nil {
		return cell{text: "-", right: true}
	}
	return cell{text: fmt.Sprintf("%.1f/s", *s.Load), right: true}
}

func decidedBy(s *control.ScaleStatus) string {
	if s.Predictive {
		return "forecast"
	}
	return "rule"
}

func executorOf(s *control.ScaleStatus) string {
	if s.Act == "dry-run" {
		return s.Executor + " (dry run)"
	}
	return s.Executor
}

// whyOf is the last of the reasons, which decided.
func whyOf(s *control.ScaleStatus) string {
	switch {
	case s.Paused != nil:
		return "paused " + s.Paused.String()
	case len(s.Reasons) == 0:
		return "-"
	}
	return s.Reasons[len(s.Reasons)-1]
}

func (p *page) scalingOf(s *control.ScaleStatus) {
	p.line("Service %s: %s wanted, %d there or ordered, %d of them up", s.Service, plural(s.Wanted, "backend"), s.Backends, s.Ready)
	p.line("  load        %s new flows, of which a backend serves %.4g/s; burstiness %.2g", loadOf(s).text, s.ServiceRate, s.Burstiness)
	p.line("  executor    %s", executorOf(s))
	learnt := "there are forecasts"
	if !s.Learnt {
		learnt = "no forecasts yet"
	}
	if s.Problem != "" {
		learnt += ": " + s.Problem
	}
	p.line("  decided by  %s (plans sufficed in %.1f %% of the latest steps; %s)", decidedBy(s), 100*s.Confidence, learnt)
	if s.Resilience != nil {
		p.line("  resilience  %.0f %%: %s", 100**s.Resilience, s.ResilienceReason)
	}
	if s.Plan != 0 {
		p.line("  plan        %d goes on: `sluice plan show %d`", s.Plan, s.Plan)
	}
	if s.Paused != nil {
		p.line("  paused      %s", s.Paused)
	}
	if s.Lease != "" {
		p.line("  lease       %s", s.Lease)
	}
	p.line("  why         %s", strings.Join(s.Reasons, "\n              "))
}
