package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/control"
)

func newEventAddCommand(c *cli) *cobra.Command {
	var event control.PlannedEvent
	var at string
	cmd := &cobra.Command{
		Use:   "add --service NAME --at TIME --for DURATION --expect CHANGE",
		Short: "Declare an event that will change a service's traffic",
		Example: `  sluice event add --service web --at 2026-11-27T09:00:00+01:00 --for 2h --expect +40%
  sluice event add --service web --at 2026-11-27T09:00 --zone Europe/Berlin --for 2h --expect +40% --every week --name sale`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []string{"service", "at", "for", "expect"} {
				if !cmd.Flag(flag).Changed {
					return usageError("--%s is missing", flag)
				}
			}
			var err error
			if event.At, err = beginsAt(at, event.Zone); err != nil {
				return invalidInput("--at: %v", err)
			}
			added, err := c.client().PlanEvent(cmd.Context(), event)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, added, func(p *page) {
				p.line("added event %s of service %s: %s for %s from %s on", added.Name, added.Service, added.Expect, added.For, beginning(added))
			})
		},
	}
	cmd.Flags().StringVar(&event.Service, "service", "", "the `SERVICE`, by name or address")
	c.completeServiceFlag(cmd)
	cmd.Flags().StringVar(&at, "at", "", "when it begins, the first `TIME`: RFC 3339, or with --zone without an offset")
	cmd.Flags().TextVar(&event.For, "for", control.Duration(0), "how long it takes, a `DURATION` such as 2h")
	cmd.Flags().Func("expect", "how it changes the traffic, such as `+40%`", func(text string) error {
		return event.Expect.UnmarshalText([]byte(text))
	})
	cmd.Flags().Func("every", "after which time it happens again: `day|week|month|year`", func(text string) error {
		event.Every = history.Recurrence(text)
		return nil
	})
	completeFlag(cmd, "every", string(history.Daily), string(history.Weekly), string(history.Monthly), string(history.Yearly))
	cmd.Flags().StringVar(&event.Zone, "zone", "", "time `ZONE` of the calendar by which it recurs, such as Europe/Berlin (default UTC)")
	cmd.Flags().StringVar(&event.Name, "name", "", "`NAME`, the same whenever something like it happens (default made of the time)")
	for _, name := range []string{"at", "for", "expect", "zone", "name"} {
		completeFlag(cmd, name)
	}
	return outputFlag(cmd)
}

// beginsAt reads a time, whose offset may be missing when there is a zone.
func beginsAt(text, zone string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "" {
		return time.Time{}, fmt.Errorf("%q is no time such as 2026-11-27T09:00:00Z; with --zone Europe/Berlin it may be 2026-11-27T09:00", text)
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err := time.ParseInLocation(layout, text, location); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time such as 2026-11-27T09:00", text)
}

// beginning is when an event begins, by the clocks of its zone.
func beginning(e control.PlannedEvent) string {
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		zone = time.UTC // only the daemon's host knows it
	}
	return e.At.In(zone).Format("2006-01-02 15:04:05 -0700")
}
