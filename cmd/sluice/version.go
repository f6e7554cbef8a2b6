package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

// versions are those of this program and of the daemon, which may have been started before an upgrade.
type versions struct {
	Client control.VersionInfo  `json:"client"`
	Daemon *control.VersionInfo `json:"daemon"` // nil when it does not answer
}

func newVersionCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "version",
		Short:             "Print the version of this program and of the daemon, if it answers",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: control.NewVersionInfo(version)}
			if daemon, err := c.client().Version(cmd.Context()); err == nil {
				v.Daemon = &daemon
			}
			return c.show(cmd, v, func(p *page) {
				p.line("client  %s (%s, %s)", v.Client.Version, v.Client.Go, v.Client.Platform)
				if v.Daemon == nil {
					p.line("daemon  does not answer")
					return
				}
				p.line("daemon  %s (%s, %s)", v.Daemon.Version, v.Daemon.Go, v.Daemon.Platform)
			})
		},
	})
}
