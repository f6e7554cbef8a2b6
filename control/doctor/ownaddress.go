package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
)

// checkOwnAddresses looks for services with an address of this host, as where a routing daemon announces it, whose
// backends answer directly. Probes go to that address at the backends: they leave only where rules come before own
// addresses, and answers from it are let in only where accept_local says so (IPv4).
func checkOwnAddresses(p *patient) ([]Finding, error) {
	var findings []Finding
	seen := make(map[string]bool)
	for _, at := range p.places() {
		name := at.backend.NextHop.Interface
		object := fmt.Sprintf("address %s, interface %s", at.service.Address, name)
		if !at.direct() || name == "" || seen[object] || !isOwn(at) {
			continue
		}
		seen[object] = true
		command, err := at.letProbesThrough(name, p.rulePriority())
		if err != nil {
			return findings, err
		}
		if command != "" {
			findings = append(findings, Finding{
				Severity: Warning, Object: object, Command: command,
				Problem: "the service's address is one of this host: probes of it do not leave, or are not answered",
			})
		}
	}
	return findings, nil
}

// rulePriority is that of the daemon's rules for probes.
func (p *patient) rulePriority() int {
	if p.Config != nil && p.Config.ProbePath.Priority != 0 {
		return int(p.Config.ProbePath.Priority)
	}
	return int(dataplane.DefaultProbePath.Priority)
}

func isOwn(p place) bool {
	routes, err := netlink.RouteGet(p.service.Address.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// letProbesThrough is the command that lets probes out, whose rules have that priority, and answers in by an
// interface; empty when nothing is in their way.
func (p place) letProbesThrough(name string, priority int) (string, error) {
	ip, family := "ip", unix.AF_INET
	if p.service.Address.Is6() {
		ip, family = "ip -6", unix.AF_INET6
	}
	rules, err := netlink.RuleList(family)
	if err != nil {
		return "", err
	}
	var commands []string
	for _, rule := range rules {
		if rule.Table == unix.RT_TABLE_LOCAL && rule.Priority < priority {
			commands = append(commands, fmt.Sprintf("%s rule add pref 32765 table local; %[1]s rule del pref %d", ip, rule.Priority))
		}
	}
	if family == unix.AF_INET {
		all, err1 := sysctl("net/ipv4/conf/all/accept_local")
		own, err2 := sysctl("net/ipv4/conf/" + name + "/accept_local")
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		if all == 0 && own == 0 {
			commands = append(commands, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.accept_local=1", strings.ReplaceAll(name, ".", "/")))
		}
	}
	return strings.Join(commands, "; "), nil
}
