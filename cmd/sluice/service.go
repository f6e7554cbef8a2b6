package main

import (
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newServiceCommand(c *cli) *cobra.Command {
	group := newGroup("service", "Add, list, show, change and remove services",
		newServiceAddCommand(c),
		newServiceListCommand(c),
		newServiceShowCommand(c),
		newServiceSetCommand(c),
		newServiceRemoveCommand(c),
	)
	group.Long = `A service is a virtual address, a port and a protocol that clients talk to.

Wherever SERVICE is asked for, its name serves as well as its address: web, 10.0.0.1:80, 10.0.0.1:80/tcp,
or 10.0.0.1 when only one service has it. IPv6: 2001:db8::1, or [2001:db8::1]:80 with a port.`
	return group
}

// describeService is the part of a line that follows a service's name.
func describeService(s control.Service) string {
	return s.Key().String() + ", " + s.Mode.String() + ", " + plural(len(s.Backends), "backend")
}
