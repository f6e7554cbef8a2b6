package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendListCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "list SERVICE",
		Short:             "List the backends of a service as desired; service show tells how they do",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, err := c.client().Service(cmd.Context(), args[0])
			if err != nil {
				return noService(err)
			}
			// The API leaves an empty list out; in a script's JSON it is [].
			return c.show(cmd, append([]control.Backend{}, service.Backends...), func(p *page) {
				if len(service.Backends) == 0 {
					p.line("no backends: `sluice backend add %s ADDRESS[:PORT]` adds one", service.Name)
					return
				}
				t := newTable("NAME", "ADDRESS", "WEIGHT", "DESIRED")
				for _, b := range service.Backends {
					t.add(b.Name, endpoint(b.Address, b.Port), *b.Weight, b.State)
				}
				p.table(t)
			})
		},
	})
}
