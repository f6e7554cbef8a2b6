package main

import (
	"bufio"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/history"
)

const formatCSV = "csv"

func newHistoryExportCommand(c *cli) *cobra.Command {
	var last time.Duration
	cmd := &cobra.Command{
		Use:               "export SERVICE",
		Short:             "Print what was measured of a service, as CSV or a JSON object for each minute",
		Example:           `  sluice history export web | gzip > web.csv.gz`,
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := recently(args[0], last)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.stdout)
			encoder := json.NewEncoder(out)
			write := func(p history.Point) { _ = encoder.Encode(p) }
			if outputFormat(cmd) == formatCSV {
				write = history.NewCSV(out).Write
			}
			if err := c.client().History(cmd.Context(), request, write); err != nil {
				return noService(err)
			}
			return out.Flush() // tells of all errors
		},
	}
	lastFlag(cmd, &last, history.Retention)
	return outputFlag(cmd, formatCSV, formatJSON)
}
