package doctor

import (
	"errors"
	"fmt"

	"github.com/sluicelb/sluice/dataplane"
)

// checkTunnels wants backends of ipip and gue services to take the outer headers off.
func checkTunnels(p *patient) ([]Finding, error) { return p.judgePaths((*path).judgeTunnel) }

// checkVIPs wants backends that answer clients directly to have the service's address, and a server on it.
func checkVIPs(p *patient) ([]Finding, error) { return p.judgePaths((*path).judgeVIP) }

// judgePaths collects findings, and why some paths could not be probed.
func (p *patient) judgePaths(judge func(*path) (Severity, string, string)) ([]Finding, error) {
	paths, err := p.probePaths()
	if err != nil {
		return nil, err
	}
	var findings []Finding
	var problems []error
	for i := range paths {
		w := &paths[i]
		severity, problem, command := judge(w)
		switch {
		case w.err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", w, w.err))
		case severity != OK:
			findings = append(findings, Finding{
				Severity: severity, Object: w.String(), Problem: problem, Command: command, On: w.backend.Address.String(),
			})
		}
	}
	return findings, errors.Join(problems...)
}

const decapCommand = "sluice decap attach --interface INTERFACE"

func (w *path) judgeTunnel() (severity Severity, problem, command string) {
	switch {
	case w.vip == refused || w.inside == refused:
		what := map[dataplane.Mode]string{dataplane.ModeIPIP: "protocol unreachable", dataplane.ModeGUE: "port unreachable"}[w.service.Mode]
		return Error, fmt.Sprintf("it does not decapsulate: it answers %s packets with an ICMP error (%s)", w.service.Mode, what), decapCommand
	case w.inside == silent:
		return Error, fmt.Sprintf("it does not decapsulate, or its tunnel device filters (rp_filter): its own address answers, but not inside %s packets", w.service.Mode), decapCommand
	}
	return OK, "", ""
}

func (w *path) judgeVIP() (severity Severity, problem, command string) {
	address := fmt.Sprintf("ip address add %s/%d dev lo", w.service.Address, w.service.Address.BitLen())
	severity = Error
	if w.service.Protocol != dataplane.ProtocolTCP {
		severity = Warning // a filter may drop TCP, which the service does not use
	}
	switch {
	case w.vip == resets && w.service.Protocol == dataplane.ProtocolTCP && w.service.Port != 0:
		return Error, fmt.Sprintf("no server listens on %s there: it resets connections", w.server(w.service.Address)),
			fmt.Sprintf("ss -ltn 'sport = :%d'", w.service.Port)
	case w.vip != silent || w.inside == refused || w.inside == silent:
		return OK, "", "" // all is well, or it is the tunnel's finding
	case w.own == silent:
		return severity, "it answers neither for the service's address nor for its own", "ss -ltn; ip route get " + w.backend.NextHop.Source.String()
	case w.tunnelled() && w.inside == unknown:
		return severity, fmt.Sprintf("no answer for %s: it does not decapsulate, or does not have that address on its loopback interface", w.service.Address),
			decapCommand + "; " + address
	}
	return severity, fmt.Sprintf("no answer for %s, though its own address answers: it does not have that address on its loopback interface", w.service.Address), address
}
