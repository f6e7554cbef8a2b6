package main

import (
	"github.com/spf13/cobra"
)

func newEventCommand(c *cli) *cobra.Command {
	group := newGroup("event", "Add, list and remove planned events that will change a service's traffic",
		newEventAddCommand(c),
		newEventListCommand(c),
		newEventRemoveCommand(c),
	)
	group.Long = `A planned event is a campaign, a broadcast, or whatever else is known to change a service's traffic. Forecasts expect the
change that is declared, and learn what it really is when events of the same name recur.

They belong into the manifest, too, in the section events. (What changed of backends is told by "sluice events".)`
	return group
}
