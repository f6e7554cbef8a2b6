package dataplane

import (
	"fmt"
	"os"
)

// The ports that nat may use at all: below are the privileged ones.
const firstPort, lastPort = 1024, 65535

// freePorts returns the longer part of the unprivileged ports that the host's own connections do not take
// their ports from. Only those can be mistaken: a reply is told by the backend's address and port, so a
// port on which the host listens does not matter.
func freePorts() (PortRange, error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(file)
	if err != nil {
		return PortRange{}, err
	}
	var first, last uint16
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return PortRange{}, fmt.Errorf("%s holds %q: %w", file, text, err)
	}
	return outside(PortRange{First: first, Last: last})
}

// outside returns the longer part of the unprivileged ports before or after local.
func outside(local PortRange) (PortRange, error) {
	before, after := max(int(local.First)-firstPort, 0), lastPort-max(int(local.Last), firstPort-1)
	switch {
	case before == 0 && after == 0:
		return PortRange{}, fmt.Errorf("net.ipv4.ip_local_port_range %s leaves no port to nat: narrow it, or set nat.ports", local)
	case before >= after:
		return PortRange{First: firstPort, Last: local.First - 1}, nil
	default:
		return PortRange{First: lastPort - uint16(after) + 1, Last: lastPort}, nil
	}
}
