package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendAddCommand(c *cli) *cobra.Command {
	var name string
	var weight *int
	var state *control.State
	var chosen control.BackendPatch
	var probe control.Probe
	cmd := &cobra.Command{
		Use:               "add SERVICE ADDRESS[:PORT]",
		Short:             "Add a backend to a service, by default on the service's port",
		Example:           "  sluice backend add web 192.168.1.13:8080 --weight 50",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			backend, err := parseAddress(args[1])
			if err != nil {
				return err
			}
			backend.Name, backend.Weight = name, weight
			if probe != (control.Probe{}) {
				backend.Probe = &probe
			}
			if state != nil {
				backend.State = *state
			}
			if chosen.Set != nil {
				backend.Set = *chosen.Set
			}
			if chosen.ServerID != nil {
				backend.ServerID = *chosen.ServerID
			}
			if chosen.Zone != nil {
				backend.Zone = *chosen.Zone
			}
			if chosen.Rack != nil {
				backend.Rack = *chosen.Rack
			}
			added, err := c.client().AddBackend(cmd.Context(), args[0], backend)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, added, func(p *page) { p.line("added %s", describeBackend(args[0], added)) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME`, by default the address")
	weightFlag(cmd, &weight)
	stateFlag(cmd, &state)
	setFlags(cmd, &chosen)
	probeFlags(cmd, &probe)
	return outputFlag(cmd)
}
