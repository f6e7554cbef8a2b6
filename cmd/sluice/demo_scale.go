package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/test/demo/day"
)

func newDemoScaleCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Watch Sluice start backends ahead of a day's peak, and end them after it",
		Long: `Make a client, the balancer and two backends in network namespaces of their own, start the daemon with a calendar
whose days take three minutes, and let it learn from three weeks of the past. Then real HTTP traffic comes along a day, from
four in the morning until ten in the evening. The daemon has backends started, which are processes in new namespaces, before the
peak, and drains and ends them after it. It takes two and a half minutes, needs root, and leaves nothing behind.

The exit code is 0 when everything was as it must be: the backends that the peak needs served before it, hardly a request failed or
took longer than the objective, no connection lost its backend, and in the evening most backends are gone.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			options := day.Options{Executable: executable, Progress: c.stdout}
			if outputFormat(cmd) == formatJSON {
				options.Progress = c.stderr // standard output holds nothing else
			}
			summary, err := day.Run(cmd.Context(), options)
			if cmd.Context().Err() != nil && !errors.Is(err, day.ErrLeftovers) {
				return &exitError{exitInterrupted, "interrupted; everything is removed"}
			}
			if err != nil {
				return err
			}
			if outputFormat(cmd) == formatJSON {
				err = json.NewEncoder(c.stdout).Encode(summary)
			} else {
				err = summary.WriteText(c.stdout)
			}
			if err == nil && len(summary.Broken) > 0 {
				return fmt.Errorf("the demo failed: %s", summary.Broken[0])
			}
			return err
		},
	}
	return outputFlag(cmd, formatTable, formatJSON)
}

// newDemoServerCommand is what the demo of scaling starts its backends with.
func newDemoServerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    day.ServerCommand + " NAME BOOTS",
		Short:  "Be a backend of the demo of scaling",
		Hidden: true,
		Args:   arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			boots, err := time.ParseDuration(args[1])
			if err != nil {
				return err
			}
			return day.RunServer(cmd.Context(), args[0], boots)
		},
	}
}

// newDemoProvisionCommand is the executor of the demo of scaling.
func newDemoProvisionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    day.ProvisionCommand + " SOCKET",
		Short:  "Be the executor of the demo of scaling",
		Hidden: true,
		Args:   arguments,
		RunE:   func(_ *cobra.Command, args []string) error { return day.Provision(args[0], c.stdin, c.stdout) },
	}
}
