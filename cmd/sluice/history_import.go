package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHistoryImportCommand(c *cli) *cobra.Command {
	var service, column string
	cmd := &cobra.Command{
		Use:   "import FILE --service NAME",
		Short: "Import what was measured of a service elsewhere",
		Long: `Import what was measured of a service elsewhere, all or nothing; it replaces what is known of the same minutes.

FILE is CSV whose first line names the columns and whose first column has the times, as RFC 3339 or Unix time in seconds or
milliseconds; or the answer of Prometheus to a query_range, such as of increase(requests_total[1m]). Both may be compressed with
gzip; "-" is standard input. What "sluice history export" wrote is imported as it was. Of other files one column becomes
the new flows of each minute: rows of longer steps are spread evenly over their minutes, those of shorter steps added up.`,
		Example: `  sluice history import requests.csv.gz --service web --column requests
  curl -s 'http://prometheus/api/v1/query_range?...' | sluice history import - --service web`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if service == "" {
				return usageError("--service NAME is missing")
			}
			file := io.NopCloser(c.stdin)
			if args[0] != "-" {
				var err error
				if file, err = os.Open(args[0]); err != nil {
					return fmt.Errorf("reading what was measured: %w", err)
				}
			}
			defer file.Close()
			imported, err := c.client().ImportHistory(cmd.Context(), service, column, file)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, imported, func(p *page) {
				p.line("imported %s of service %s from %s to %s: %s", plural(imported.Minutes, "minute"), service,
					imported.From.Format(time.RFC3339), imported.To.Format(time.RFC3339), strings.Join(imported.Columns, ", "))
				if imported.Outside > 0 {
					p.line("left out %s older than 90 days or in the future", plural(imported.Outside, "row"))
				}
			})
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "the `SERVICE`, by name or address")
	c.completeServiceFlag(cmd)
	cmd.Flags().StringVar(&column, "column", "", "the `COLUMN` that becomes the new flows; of Prometheus' answer a series by its labels")
	completeFlag(cmd, "column")
	return outputFlag(cmd)
}
