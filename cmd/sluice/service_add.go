package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

func newServiceAddCommand(c *cli) *cobra.Command {
	var service control.Service
	var selection control.ServicePatch
	var backends []string
	cmd := &cobra.Command{
		Use:   "add NAME ADDRESS[:PORT]",
		Short: "Add a service; without a port it has every port",
		Example: `  sluice service add web 10.0.0.1:80 --backend 192.168.1.11 --backend 192.168.1.12:8080
  sluice service add dns [2001:db8::53]:53 --protocol udp --mode l2`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parseAddress(args[1])
			if err != nil {
				return err
			}
			service.Name, service.Address, service.Port = args[0], at.Address, at.Port
			service.Apply(selection)
			if service.Backends, err = parseBackends(backends); err != nil {
				return err
			}
			added, err := c.client().CreateService(cmd.Context(), service)
			if err != nil {
				return err
			}
			return c.show(cmd, added, func(p *page) { p.line("added service %s: %s", added.Name, describeService(added)) })
		},
	}
	service.Protocol = dataplane.ProtocolTCP
	cmd.Flags().TextVar(&service.Protocol, "protocol", dataplane.ProtocolTCP, "`tcp|udp|sctp`")
	completeFlag(cmd, "protocol", "tcp", "udp", "sctp")
	modeFlag(cmd, &service.Mode)
	selectionFlags(cmd, &selection)
	service.Probe = new(control.Probe)
	probeFlags(cmd, service.Probe)
	healthFlags(cmd, &service.Health, &service.Load)
	cmd.Flags().StringArrayVar(&backends, "backend", nil, "a backend's `ADDRESS[:PORT]`; may be repeated")
	completeFlag(cmd, "backend")
	return outputFlag(cmd)
}

func parseBackends(texts []string) ([]control.Backend, error) {
	backends := make([]control.Backend, len(texts))
	for i, text := range texts {
		var err error
		if backends[i], err = parseAddress(text); err != nil {
			return nil, err
		}
	}
	return backends, nil
}
