package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/test/demo"
)

func newDemoCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch Sluice keep a service alive while its backends fail, in namespaces of its own",
		Long: `Make a client, the balancer and four backends in network namespaces of their own, start the daemon, and send
real HTTP and UDP traffic over IPv4 and IPv6. One backend is killed, the link of another one goes down, a
third one is drained. It takes about 25 seconds, needs root, and leaves nothing behind.

The exit code is 0 when everything was as it must be: hardly a request failed, none for the drain; never a
second without answers; no connection left a backend that was alive; new flows were spread evenly.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			// With -o json standard output holds nothing else.
			options := demo.Options{Executable: executable, Progress: c.stdout, Live: c.terminal}
			if outputFormat(cmd) == formatJSON {
				options.Progress, options.Live = c.stderr, false
			}
			summary, err := demo.Run(cmd.Context(), options)
			if cmd.Context().Err() != nil && !errors.Is(err, demo.ErrLeftovers) {
				return &exitError{exitInterrupted, "interrupted; everything is removed"}
			}
			if err != nil {
				return err
			}
			return c.showDemo(cmd, summary)
		},
	}
	cmd.AddCommand(newDemoScaleCommand(c))
	return outputFlag(cmd, formatTable, formatJSON)
}

// showDemo prints the summary, as JSON on one line, and fails when something was not as it must be.
func (c *cli) showDemo(cmd *cobra.Command, summary demo.Summary) error {
	var err error
	if outputFormat(cmd) == formatJSON {
		err = json.NewEncoder(c.stdout).Encode(summary)
	} else {
		err = summary.WriteText(c.stdout)
	}
	if err == nil && len(summary.Broken) > 0 {
		return fmt.Errorf("the demo failed: %s", summary.Broken[0])
	}
	return err
}
