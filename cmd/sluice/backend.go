package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendCommand(c *cli) *cobra.Command {
	group := newGroup("backend", "Add, list, show, change, drain and remove backends of a service",
		newBackendAddCommand(c),
		newBackendListCommand(c),
		newBackendShowCommand(c),
		newBackendSetCommand(c),
		newBackendDrainCommand(c),
		newBackendRemoveCommand(c),
	)
	group.Long = `A backend is a server that answers for a service.

Wherever SERVICE or BACKEND is asked for, its name serves as well as its address, which needs its port
only when two of them share it: 192.168.1.11, 192.168.1.11:8080, 2001:db8::11 or [2001:db8::11]:8080.`
	return group
}

// endpoint is an address with its port, if it has one.
func endpoint(address netip.Addr, port uint16) string {
	if port == 0 {
		return address.String()
	}
	return netip.AddrPortFrom(address, port).String()
}

// updateBackend changes a backend and prints it.
func (c *cli) updateBackend(cmd *cobra.Command, service, backend string, patch control.BackendPatch) error {
	b, err := c.client().UpdateBackend(cmd.Context(), service, backend, patch)
	if err != nil {
		return c.noBackend(cmd, service, err)
	}
	return c.show(cmd, b, func(p *page) { p.line("changed %s", describeBackend(service, b)) })
}

// describeBackend is the line about a backend that follows a verb.
func describeBackend(service string, b control.Backend) string {
	return fmt.Sprintf("backend %s of %s: %s, weight %d, %s", b.Name, service, endpoint(b.Address, b.Port), *b.Weight, b.State)
}
