package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/orchestrate"
)

func newPlansCommand(c *cli) *cobra.Command {
	last := 20
	cmd := &cobra.Command{
		Use:               "plans",
		Short:             "List the latest plans: what was done to services, and how it ended",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 1 {
				return invalidInput("--last: %d is not 1 or more", last)
			}
			plans, err := c.client().Plans(cmd.Context())
			if err != nil {
				return err
			}
			plans = plans[max(len(plans)-last, 0):]
			return c.show(cmd, plans, func(p *page) { p.plans(plans) })
		},
	}
	cmd.Flags().IntVar(&last, "last", last, "at most so many, a `NUMBER`; the daemon keeps 1000")
	return outputFlag(cmd)
}

func newPlanCommand(c *cli) *cobra.Command {
	return newGroup("plan", "See what was done to a service", newPlanShowCommand(c))
}

func newPlanShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show NUMBER",
		Short:             "Show a plan: its steps, why they are taken, and how they ended",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || number == 0 {
				return invalidInput("%q is no number of a plan; `sluice plans` lists them", args[0])
			}
			plan, err := c.client().Plan(cmd.Context(), number)
			if err != nil {
				return err
			}
			return c.show(cmd, plan, func(p *page) { p.plan(plan) })
		},
	}
	return outputFlag(cmd)
}

func (p *page) plans(plans []*orchestrate.Plan) {
	if len(plans) == 0 {
		p.line("there is no plan yet")
		return
	}
	t := newTable("PLAN", "TIME", "SERVICE", "WHAT", "STATE", "WHY")
	for _, plan := range plans {
		why := plan.Why
		if cause := plan.Cause(); cause != "" {
			why = cause
		}
		t.add(number(float64(plan.Number)), plan.Created.Local().Format(time.DateTime), plan.Target(), whatOf(plan), string(plan.State), why)
	}
	p.table(t)
}

// whatOf says for example "drain, scale-down".
func whatOf(plan *orchestrate.Plan) string {
	var actions []string
	for _, phase := range plan.Phases {
		for i := range phase {
			actions = append(actions, phase[i].Action)
		}
	}
	return strings.Join(actions, ", ")
}

func (p *page) plan(plan *orchestrate.Plan) {
	p.line("Plan %d of %s, for service %s: %s", plan.Number, plan.Created.Local().Format(time.DateTime), plan.Target(), plan.State)
	p.line("  why         %s", strings.ReplaceAll(plan.Why, "; ", "\n              "))
	if cause := plan.Cause(); cause != "" {
		p.line("  given up    %s", cause)
	}
	p.line("")
	t := newTable("PHASE", "STEP", "ACTION", "WITH", "STATE", "TOOK", "ERROR")
	for i, phase := range plan.Phases {
		for k := range phase {
			s := &phase[k]
			took := "-"
			if !s.Ended.IsZero() {
				took = s.Ended.Sub(s.Started).Round(time.Millisecond).String()
			}
			t.add(number(float64(i+1)), s.ID, s.Action, paramsOf(s), string(s.State), took, s.Error)
		}
	}
	p.table(t)
	for _, d := range plan.Dropped {
		p.line("not done: %s of %s: %s", d.Action, d.Pattern, d.Why)
	}
}

// paramsOf says for example "2 to 4 backends, b3 b4".
func paramsOf(s *orchestrate.Step) string {
	var parts []string
	if s.Params["instances"] != "" {
		parts = append(parts, fmt.Sprintf("%s to %s backends", s.Params["was"], s.Params["instances"]))
	}
	if s.Params["backends"] != "" {
		parts = append(parts, s.Params["backends"])
	}
	return strings.Join(parts, ", ")
}
