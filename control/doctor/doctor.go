// Package doctor looks for what keeps a host from balancing as its user wishes: in the kernel, the interfaces,
// the routes and the backends. It asks the running daemon what that is, and the kernel and the backends how
// things are; it changes nothing. It runs in the network namespace of the daemon, as root.
//
// It is not for watching: `sluice status` and the metrics say how services do from one moment to the next.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluicelb/sluice/control"
)

// Severity says how bad a finding is.
type Severity string

// The severities, the worst last.
const (
	OK      Severity = "ok"      // what was checked is as it should be
	Info    Severity = "info"    // worth knowing; nothing has to be done
	Warning Severity = "warning" // works, but not for all traffic, not for long, or slower than it could
	Error   Severity = "error"   // some traffic does not get through
)

var severities = []Severity{OK, Info, Warning, Error}

// Compare orders severities; the worst is the greatest.
func (s Severity) Compare(other Severity) int {
	return cmp.Compare(slices.Index(severities, s), slices.Index(severities, other))
}

// Finding is what one check found at one object.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object,omitempty"`  // such as "interface eth0" or "service web, backend one"
	Problem  string   `json:"problem,omitempty"` // what is wrong, one sentence
	Command  string   `json:"command,omitempty"` // what mends it, or looks further where nothing can
	On       string   `json:"on,omitempty"`      // where to run the command, when that is not this host
}

// Report is the result of all checks. A check that found nothing has one finding, which is OK.
type Report struct {
	Findings []Finding `json:"findings"` // the worst first, otherwise in the order of the checks
}

// Worst returns the severity of the worst finding.
func (r Report) Worst() Severity {
	if len(r.Findings) == 0 {
		return OK
	}
	return r.Findings[0].Severity
}

// Options of Run. Socket is needed.
type Options struct {
	Socket     string          // of the daemon's API
	Config     *control.Config // nil: not known, what depends on it is not checked
	ConfigPath string          // of the configuration's file, for commands that name it
	Service    string          // name or address of the only service to look at, "" is all
}

// check is one thing to look at. It returns what is wrong; an error says why it could not look.
type check struct {
	name   string
	daemon bool // needs a daemon that answers
	run    func(*patient) ([]Finding, error)
}

var checks = []check{
	{"daemon", false, checkDaemon},
	{"namespace", true, checkNamespace},
	{"kernel", false, checkKernel},
	{"bpffs", false, checkBPFFS},
	{"limits", true, checkLimits},
	{"interface", false, checkInterfaces},
	{"xdp-mode", true, checkXDPMode},
	{"xdp-transmit", true, checkXDPTransmit},
	{"offload", false, checkOffloads},
	{"ring", false, checkRings},
	{"rp_filter", true, checkReversePath},
	{"ip_forward", true, checkForwarding},
	{"own-address", true, checkOwnAddresses},
	{"nat-ports", false, checkNATPorts},
	{"service", true, checkServices},
	{"local-listener", true, checkListeners},
	{"next-hop", true, checkNextHops},
	{"mtu", true, checkMTU},
	{"tunnel", true, checkTunnels},
	{"vip", true, checkVIPs},
}

// Run makes all checks. It returns an error only when the daemon does not know the service, or ctx ends.
func Run(ctx context.Context, o Options) (Report, error) {
	p, err := newPatient(ctx, o)
	if err != nil {
		return Report{}, err
	}
	var report Report
	for _, c := range checks {
		report.Findings = append(report.Findings, p.examine(c)...)
		if ctx.Err() != nil {
			return Report{}, ctx.Err()
		}
	}
	slices.SortStableFunc(report.Findings, func(a, b Finding) int { return b.Severity.Compare(a.Severity) })
	return report, nil
}

func (p *patient) examine(c check) []Finding {
	if c.daemon && p.status == nil {
		return []Finding{{Check: c.name, Severity: Info, Problem: "not checked: no daemon answers"}}
	}
	findings, err := c.run(p)
	switch {
	case errors.Is(err, os.ErrPermission):
		findings = append(findings, Finding{Severity: Warning, Problem: fmt.Sprintf("not checked: %v", err), Command: "sudo sluice doctor"})
	case err != nil:
		findings = append(findings, Finding{Severity: Info, Problem: fmt.Sprintf("not checked: %v", err)})
	}
	if len(findings) == 0 {
		findings = []Finding{{Severity: OK}}
	}
	for i := range findings {
		findings[i].Check = c.name
	}
	return findings
}

// checkDaemon wants a daemon that answers.
func checkDaemon(p *patient) ([]Finding, error) {
	if p.status != nil {
		return nil, nil
	}
	command := "sluice run"
	if p.ConfigPath != "" {
		command += " --config " + p.ConfigPath
	}
	problem, _, _ := strings.Cut(p.silence.Error(), "; ") // the rest is the command
	return []Finding{{Severity: Error, Problem: problem, Command: command}}, nil
}

// checkServices passes on what the daemon itself says of services.
func checkServices(p *patient) ([]Finding, error) {
	var findings []Finding
	for i := range p.status.Services {
		s := &p.status.Services[i]
		f := Finding{Severity: Error, Object: "service " + s.Name, Command: "sluice service show " + s.Name}
		switch {
		case s.Error != "":
			f.Problem = s.Error
		case len(s.Backends) == 0:
			f.Problem, f.Command = "it has no backends", fmt.Sprintf("sluice backend add %s ADDRESS", s.Name)
		case s.State == control.ServicePanic:
			f.Problem = "too few backends are up, so all are used"
		case s.State == control.ServiceFailed:
			f.Problem = "no backend takes new flows"
		default:
			continue
		}
		findings = append(findings, f)
	}
	return findings, nil
}

var errNoInterface = errors.New("no interface is known: give --config")
