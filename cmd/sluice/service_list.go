package main

import (
	"github.com/spf13/cobra"
)

func newServiceListCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "list",
		Short:             "List the services as desired; status shows how they do",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := c.client().Services(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(cmd, services, func(p *page) {
				if len(services) == 0 {
					p.line(noServices)
					return
				}
				t := newTable("NAME", "ADDRESS", "MODE", "BACKENDS")
				for _, s := range services {
					t.add(s.Name, s.Key(), s.Mode, len(s.Backends))
				}
				p.table(t)
			})
		},
	})
}

const noServices = "no services: `sluice service add NAME ADDRESS[:PORT]` adds one"
