package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/control"
)

func newHistoryCommand(c *cli) *cobra.Command {
	group := newGroup("history", "Show, import and export what was measured of services, minute by minute",
		newHistoryShowCommand(c),
		newHistoryImportCommand(c),
		newHistoryExportCommand(c),
	)
	group.Long = `The daemon measures each service once a minute and keeps that for 90 days: new flows, packets, bytes, flows in progress
(with policy p2c), backends that are up, and for connections of TCP the mean handshake time, the share of SYNs that were sent
again, and the share of new flows that were refused. Minutes in which it did not run are absent.`
	return group
}

// lastFlag defines --last.
func lastFlag(cmd *cobra.Command, target *time.Duration, usual time.Duration) {
	cmd.Flags().DurationVar(target, "last", usual, "only this long before now, a `DURATION` such as 24h")
}

// recently asks for what was measured lately.
func recently(service string, last time.Duration) (control.HistoryRequest, error) {
	if last <= 0 || last > history.Retention {
		return control.HistoryRequest{}, invalidInput("--last: %s is not within 1m and %s", last, history.Retention)
	}
	now := time.Now()
	return control.HistoryRequest{Service: service, From: now.Add(-last), To: now}, nil
}
