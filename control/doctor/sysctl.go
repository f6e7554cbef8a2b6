package doctor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane"
)

// sysctl reads for example "net/ipv4/ip_forward", a number. One that is not there is 0: those are of IPv6,
// which is off, or of interfaces that are gone, which is another check's finding.
func sysctl(key string) (int, error) {
	text, err := os.ReadFile("/proc/sys/" + key)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// checkReversePath looks for strict reverse path filters. They drop what backends that answer directly send to
// this host's probes, and to clients when this host is their router: it comes from the service's address, whose
// route is seldom through the backends' interface. What XDP forwards never meets the filter.
func checkReversePath(p *patient) ([]Finding, error) {
	all, err := sysctl("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, name := range slices.Sorted(maps.Keys(p.replyInterfaces())) {
		own, err := sysctl("net/ipv4/conf/" + name + "/rp_filter")
		if err != nil {
			return findings, err
		}
		const strict = 1
		if max(all, own) != strict { // the greater one holds (ip-sysctl.rst)
			continue
		}
		findings = append(findings, Finding{
			Severity: Warning, Object: "interface " + name,
			Problem: "rp_filter is strict: answers to probes, and replies of backends that use this host as their router, are dropped",
			Command: fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", strings.ReplaceAll(name, ".", "/")),
		})
	}
	return findings, nil
}

// replyInterfaces names those on which replies from an IPv4 service address can arrive that has no route
// through them.
func (p *patient) replyInterfaces() map[string]bool {
	names := make(map[string]bool)
	for _, at := range p.places() {
		name := at.backend.NextHop.Interface
		if !at.direct() || !at.service.Address.Is4() || name == "" || names[name] {
			continue
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			continue
		}
		routes, err := netlink.RouteGet(at.service.Address.AsSlice())
		if err != nil || len(routes) == 0 || routes[0].LinkIndex != link.Attrs().Index {
			names[name] = true
		}
	}
	return names
}

// checkForwarding says when forwarding is off and what needs it. What XDP forwards does not.
func checkForwarding(p *patient) ([]Finding, error) {
	keys := map[bool]string{true: "net/ipv4/ip_forward", false: "net/ipv6/conf/all/forwarding"} // by Is4
	var findings []Finding
	for _, at := range p.places() {
		key := keys[at.service.Address.Is4()]
		if !at.direct() || key == "" {
			continue
		}
		delete(keys, at.service.Address.Is4())
		on, err := sysctl(key)
		if err != nil || on != 0 {
			continue
		}
		name := strings.ReplaceAll(key, "/", ".")
		findings = append(findings, Finding{
			Severity: Info, Object: name, Command: fmt.Sprintf("sysctl -w %s=1", name),
			Problem: "forwarding is off: Sluice does not need it, but replies do when this host is the backends' router",
		})
	}
	return findings, nil
}

// checkNATPorts wants the host's own connections to take other ports than nat does: the reply to one could be
// taken for the reply to the other.
func checkNATPorts(p *patient) ([]Finding, error) {
	if p.Config == nil {
		return nil, errors.New("the range of nat's ports is not known: give --config")
	}
	nat := p.Config.NAT.Ports
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return nil, err
	}
	var local dataplane.PortRange
	if _, err := fmt.Sscan(string(text), &local.First, &local.Last); err != nil {
		return nil, err
	}
	if nat == (dataplane.PortRange{}) || nat.Last < local.First || local.Last < nat.First {
		return nil, nil // without a range the daemon keeps out of the way by itself
	}
	return []Finding{{
		Severity: Warning, Object: "nat.ports " + nat.String(), Command: moveLocalPorts(nat),
		Problem: fmt.Sprintf("the host's own connections take their ports from %s, so that their replies can be taken for those of clients", local),
	}}, nil
}

// moveLocalPorts gives the host's own connections the longer part of the ports before or after those of nat.
func moveLocalPorts(nat dataplane.PortRange) string {
	const unprivileged, last = 1024, 65535
	from, to := int(nat.Last)+1, last
	if int(nat.First)-unprivileged > last-int(nat.Last) {
		from, to = unprivileged, int(nat.First)-1
	}
	return fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range='%d %d'", from, to)
}
