package main

import (
	"github.com/spf13/cobra"
)

func newLogLevelCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "log-level [LEVEL]",
		Short:             "Show or set the daemon's log level: debug, info, warn or error",
		Long:              "Show the daemon's log level, or set it until the daemon ends: debug, info, warn or error.",
		Args:              arguments,
		ValidArgsFunction: cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := c.client().SetLogLevel(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			level, err := c.client().LogLevel(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(cmd, map[string]string{"level": level}, func(p *page) { p.line("%s", level) })
		},
	})
}
