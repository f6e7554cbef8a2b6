package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newBackendShowCommand(c *cli) *cobra.Command {
	return outputFlag(&cobra.Command{
		Use:               "show SERVICE BACKEND",
		Short:             "Show how a backend does: its state, its score and what makes it",
		Args:              arguments,
		ValidArgsFunction: c.completeBackend,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, b, err := c.backendStatus(cmd, args[0], args[1])
			if err != nil {
				return err
			}
			return c.show(cmd, b, func(p *page) { p.backend(service, b, time.Now()) })
		},
	})
}

// backendStatus finds what the daemon knows of a backend.
func (c *cli) backendStatus(cmd *cobra.Command, service, backend string) (*control.ServiceStatus, *control.BackendStatus, error) {
	desired, err := c.client().Service(cmd.Context(), service)
	if err != nil {
		return nil, nil, noService(err)
	}
	found, err := desired.Backend(backend)
	if err != nil {
		return nil, nil, c.noBackend(cmd, service, err)
	}
	status, err := c.client().Status(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	for i := range status.Services {
		s := &status.Services[i]
		at := slices.IndexFunc(s.Backends, func(b control.BackendStatus) bool { return b.Name == found.Name })
		if s.Name == desired.Name && at >= 0 {
			return s, &s.Backends[at], nil
		}
	}
	return nil, nil, &exitError{exitNotFound, fmt.Sprintf("backend %q of %q was removed at this moment", backend, service)}
}

// backend prints everything about a backend; now is what ages are counted to.
func (p *page) backend(s *control.ServiceStatus, b *control.BackendStatus, now time.Time) {
	since := ""
	if !b.Since.IsZero() {
		since = " for " + age(now.Sub(b.Since))
	}
	p.line("%s of %s  %s  %s%s", p.paint(bold, b.Name), s.Name, endpoint(b.Address, b.Port), p.paint(stateStyle(b.State), string(b.State)), since)
	if b.Cause != "" {
		p.line("cause: %s", b.Cause)
	}
	reasons := ""
	if b.Reasons != "" {
		reasons = " (" + b.Reasons + ")"
	}
	p.line("weight %d, %.0f%% of it in force%s, %.1f%% of the slots", b.Weight, 100*b.InForce, reasons, 100*b.Share)
	p.line("")
	p.line("score %.2f = success x latency x handshakes x load", b.Score)
	t := newTable("TERM", "VALUE", "FROM")
	success := fmt.Sprintf("%.0f%% of its probes succeeded lately", 100*b.ProbeSuccess)
	if b.NotProbed != "" {
		success += "; not probed: " + b.NotProbed
	}
	t.add("success", fmt.Sprintf("%.2f", b.Terms.Success), success)
	t.add("latency", fmt.Sprintf("%.2f", b.Terms.Latency), fmt.Sprintf("probes %s (median %s), handshakes %s (median %s); what is above twice the median counts less",
		known(b.ProbeLatency), known(b.PeersLatency), known(b.Handshake), known(b.PeersHandshake)))
	t.add("handshakes", fmt.Sprintf("%.2f", b.Terms.Handshakes), fmt.Sprintf("%.0f%% of %.0f failed lately", 100*b.HandshakesFailed, b.HandshakesSeen))
	t.add("load", fmt.Sprintf("%.2f", b.Terms.Load), cmp.Or(b.Reported, "not asked for"))
	p.table(t)
	p.line("")
	p.line("%s new flows, %s packets, %s bytes, %s replies", number(float64(b.NewFlows)).text, number(float64(b.Packets)).text, number(float64(b.Bytes)).text, number(float64(b.Replies)).text)
	p.line("next hop %s", nextHop(b.NextHop).text)
}

// known is a duration that may not be known.
func known(d control.Duration) string {
	if d == 0 {
		return "unknown"
	}
	return time.Duration(d).Round(10 * time.Microsecond).String()
}
