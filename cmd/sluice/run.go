package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

// defaultConfig is where packages put the daemon's configuration.
const defaultConfig = "/etc/sluice/sluice.yaml"

// garbagePercent is how much the heap grows until it is collected, instead of Go's 100. Nearly all of it is what is known of
// the backends and lives as long as they, so that of a large heap as much again would be kept for nothing; and little
// becomes garbage, so that collecting more often costs little.
const garbagePercent = 40

func newRunCommand(c *cli) *cobra.Command {
	var file string
	var check bool
	var calendar control.Calendar
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon until SIGINT or SIGTERM; packets keep flowing afterwards",
		Long: `Run the daemon in the foreground until SIGINT or SIGTERM. It adopts what an earlier daemon left in the kernel,
and leaves it there when it ends: packets keep flowing. ` + "`sluice unload`" + ` removes it.`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := control.LoadConfig(file)
			if err != nil {
				return err
			}
			if check {
				_, err := fmt.Fprintf(c.stdout, "%s is valid\n", file)
				return err
			}
			if calendar.Speed < 0 {
				return invalidInput("--calendar-speed: %g is negative", calendar.Speed)
			}
			if cmd.Flag("socket").Changed {
				config.API.Socket = c.socket
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(garbagePercent)
			}
			return control.Run(cmd.Context(), config, control.Options{Version: version, Calendar: calendar})
		},
	}
	cmd.Flags().StringVar(&file, "config", defaultConfig, "configuration, a `FILE` in YAML")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // fails only for an unknown flag
	cmd.Flags().Float64Var(&calendar.Speed, "calendar-speed", 0, "have days pass so many times as fast, for demonstrations; a `NUMBER`")
	cmd.Flags().TimeVar(&calendar.At, "calendar-at", time.Time{}, []string{time.RFC3339}, "`TIME` of that calendar when the daemon starts")
	for _, name := range []string{"calendar-speed", "calendar-at"} {
		_ = cmd.Flags().MarkHidden(name) // fails only for an unknown flag
	}
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration")
	return cmd
}
