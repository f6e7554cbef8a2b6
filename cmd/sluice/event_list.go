package main

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newEventListCommand(c *cli) *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List planned events",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			events, err := c.client().PlannedEvents(cmd.Context())
			if err != nil {
				return err
			}
			if service != "" {
				of, err := c.client().Service(cmd.Context(), service)
				if err != nil {
					return noService(err)
				}
				events = slices.DeleteFunc(events, func(e control.PlannedEvent) bool { return e.Service != of.Name })
			}
			return c.show(cmd, events, func(p *page) { p.plannedEvents(events) })
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only those of a `SERVICE`, by name or address")
	c.completeServiceFlag(cmd)
	return outputFlag(cmd)
}

func (p *page) plannedEvents(events []control.PlannedEvent) {
	if len(events) == 0 {
		p.line("no events are planned: `sluice event add` declares one")
		return
	}
	t := newTable("SERVICE", "EVENT", "BEGINS", "FOR", "EXPECT", "EVERY", "ZONE")
	for _, e := range events {
		t.add(e.Service, e.Name, beginning(e), e.For, cell{text: e.Expect.String(), right: true}, cmp.Or(string(e.Every), "-"), cmp.Or(e.Zone, "UTC"))
	}
	p.table(t)
}
