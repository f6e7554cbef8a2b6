package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
)

func newEventsCommand(c *cli) *cobra.Command {
	var request control.EventsRequest
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Tell what changed of backends and traffic, and why",
		Long: `Tell what changed and why: states of backends, by health or by wish, weights that scores and slow start brought, and
services that are in panic; and minutes in which the traffic of a service was not as expected. The daemon keeps the latest 10,000 of these events while it runs; its log has them too.`,
		Example: `  sluice events -f
  sluice events --service web -o json`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			encoder := json.NewEncoder(c.stdout)
			var failed error
			err := c.client().Events(ctx, request, func(e control.Event) bool {
				if outputFormat(cmd) == formatJSON {
					failed = encoder.Encode(e)
				} else {
					_, failed = fmt.Fprintln(c.stdout, e.Time.Local().Format(time.StampMilli), e)
				}
				return failed == nil
			})
			return cmp.Or(noService(err), failed)
		},
	}
	cmd.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on with those that come, until Ctrl-C")
	cmd.Flags().Func("after", "only those after this `NUMBER`", func(text string) (err error) {
		if request.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("%q is no number of an event", text)
		}
		return nil
	})
	cmd.Flags().StringVar(&request.Service, "service", "", "only those of a `SERVICE`, by name or address")
	c.completeServiceFlag(cmd)
	return outputFlag(cmd, "text", formatJSON)
}
