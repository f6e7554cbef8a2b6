package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

func newServiceShowCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "show SERVICE",
		Short:             "Show how a service and each of its backends do",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, err := c.client().Service(cmd.Context(), args[0])
			if err != nil {
				return noService(err)
			}
			status, err := c.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			i := slices.IndexFunc(status.Services, func(s control.ServiceStatus) bool { return s.Name == service.Name })
			if i < 0 {
				return &exitError{exitNotFound, fmt.Sprintf("service %q was removed at this moment", service.Name)}
			}
			return c.show(cmd, status.Services[i], func(p *page) { p.service(&status.Services[i], time.Now()) })
		},
	})
}

// service prints everything about a service; now is what ages are counted to.
func (p *page) service(s *control.ServiceStatus, now time.Time) {
	p.line("%s  %s  mode %s  %s", p.paint(bold, s.Name), s.Key(), s.Mode, p.paint(stateStyle(s.State), string(s.State)))
	if s.Error != "" {
		p.line("%s %s", p.paint(red, "!"), s.Error)
	}
	p.line("%s; Maglev table of %s", describeProbe(s.Probe), plural(s.Slots, "slot"))
	p.flows(s.Flows)
	p.selection(s.Selection)
	if len(s.Backends) == 0 {
		p.line("no backends: `sluice backend add %s ADDRESS[:PORT]` adds one", s.Name)
		return
	}
	p.line("")
	flows, newFlows := "NEW FLOWS", func(b *control.BackendStatus) cell { return number(float64(b.NewFlows)) }
	if s.Policy == dataplane.PolicyP2C {
		flows, newFlows = "NEW FLOWS (ACTIVE)", func(b *control.BackendStatus) cell {
			return cell{text: fmt.Sprintf("%s (%s)", number(float64(b.NewFlows)).text, number(float64(b.Active)).text), right: true}
		}
	}
	t := newTable("BACKEND", "ADDRESS", "WEIGHT", "SCORE", "STATE", "FOR", "SHARE", flows, "PACKETS", "BYTES", "NEXT HOP", "CAUSE")
	for i := range s.Backends {
		b := &s.Backends[i]
		since := ""
		if !b.Since.IsZero() {
			since = age(now.Sub(b.Since))
		}
		name := b.Name
		if b.Set != "" {
			name += " (" + b.Set + ")"
		}
		cause := strings.Join(slices.DeleteFunc([]string{b.Cause, b.Reasons}, func(s string) bool { return s == "" }), "; ")
		t.add(name, endpoint(b.Address, b.Port), b.Weight, fmt.Sprintf("%.2f", b.Score), cell{text: string(b.State), style: stateStyle(b.State)}, since,
			percentOf(b.Share, 1),
			newFlows(b), number(float64(b.Packets)), number(float64(b.Bytes)), nextHop(b.NextHop), cause)
	}
	p.table(t)
}

// flows prints which flows are remembered, where that is not all.
func (p *page) flows(f dataplane.TrackingStatus) {
	all := f.Kind != dataplane.TrackingJustEnough && f.Kind != dataplane.TrackingNone
	if all && f.InTransition == 0 {
		return
	}
	text := fmt.Sprintf("tracking %s: %s stable, %d in transition", f.Kind, plural(f.Stable, "slot"), f.InTransition)
	if f.InTransition > 0 {
		text += fmt.Sprintf(", the oldest for %s", age(time.Duration(f.OldestSeconds)*time.Second))
	}
	p.line("%s; %s remembered", text, plural(f.Remembered, "flow"))
}

// selection prints what differs from the usual.
func (p *page) selection(s control.Selection) {
	if s.Hash != (dataplane.Hash{}) {
		p.line("hash %s", s.Hash)
	}
	if s.ClampMSS != 0 {
		p.line("clamp-mss %s", s.ClampMSS)
	}
	if s.QUIC != (dataplane.QUIC{}) {
		p.line("quic configuration %d, server IDs of %s", s.QUIC.Config, plural(int(s.QUIC.ServerIDLength), "byte"))
	}
	if s.Limit != (dataplane.Limit{}) {
		p.line("limit %s", s.Limit)
	}
	if s.Policy != dataplane.PolicyMaglev {
		p.line("policy %s", s.Policy)
	}
	for _, rule := range s.Sources {
		switch {
		case rule.Deny:
			p.line("source %s is denied", rule.Prefix)
		case rule.Set == "":
			p.line("source %s goes to the backends without a set", rule.Prefix)
		default:
			p.line("source %s goes to set %s", rule.Prefix, rule.Set)
		}
	}
}

func describeProbe(p control.Probe) string {
	if p.Kind == control.ProbeNone {
		return "no probe"
	}
	what := string(p.Kind)
	if p.Path != "" {
		what += " " + p.Path
	}
	if p.Port != 0 {
		what += fmt.Sprintf(" port %d", p.Port)
	}
	return fmt.Sprintf("%s probe to the %s every %s, timeout at most %s, rise %d, fall %d (%s)", what, p.Via, p.Interval, p.Timeout, p.Rise, p.Fall, p.Profile)
}

// nextHop is where packets for a backend go, in the manner of `ip route`, or why they go nowhere.
func nextHop(h dataplane.NextHop) cell {
	if !h.Resolved {
		text := "unresolved"
		if h.Reason != "" {
			text += ": " + h.Reason
		}
		return cell{text: text, style: red}
	}
	text := h.Interface
	if h.Gateway.IsValid() {
		text = "via " + h.Gateway.String() + " " + text
	}
	for _, vlan := range h.VLANs {
		text += fmt.Sprintf(" vlan %d", vlan)
	}
	return cell{text: text}
}

// stateStyle is the colour of the state of a service or a backend.
func stateStyle[S control.ServiceState | control.State](state S) style {
	switch string(state) {
	case string(control.ServiceOK), string(control.StateUp):
		return green
	case string(control.ServiceDegraded), string(control.StateDraining), string(control.StateStandby):
		return yellow
	}
	return red
}
