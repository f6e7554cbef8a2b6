package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// formatPcap is the output of trace that other tools read.
const formatPcap = "pcap"

func newTraceCommand(c *cli) *cobra.Command {
	var request control.ExplainRequest
	var capture, manifest string
	cmd := &cobra.Command{
		Use:   "trace CLIENT:PORT SERVICE | trace --pcap FILE",
		Short: "Say where packets go and why, without sending any",
		Long: `Say which backend a client's packets go to, and what chose it: the slot of a hash, a remembered flow, a
connection ID. With --pcap, give every packet of a capture to the very program and say what becomes of each.
Nothing is sent, and what the daemon knows and counts does not change.

With --config the packets meet the services of a manifest alone, without a daemon: every backend healthy, no
flow known. Next hops are then what the manifest says ("mac:" of each backend).`,
		Example: `  sluice trace 192.0.2.7:40000 web
  sluice trace [2001:db8::7]:5353 [2001:db8::53]:53 --proto udp
  sluice trace --pcap client.pcap
  sluice trace --pcap client.pcap --config services.yaml -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch given := cmd.Flags().Changed; {
			case given("pcap") && capture == "", given("config") && manifest == "":
				return usageError("--pcap and --config want the name of a file")
			case capture == "" && len(args) != 2:
				return usageError("CLIENT:PORT and SERVICE, or --pcap FILE, must be given")
			case capture != "" && len(args) != 0:
				return usageError("--pcap takes no arguments")
			case capture == "-" && manifest == "-":
				return usageError("--pcap and --config cannot both be standard input")
			}
			return nil
		},
		ValidArgsFunction: c.completeTraceArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if capture != "" {
				return c.tracePcap(cmd, capture, manifest, request)
			}
			if manifest != "" || outputFormat(cmd) == formatPcap {
				return usageError("--config and -o pcap go with --pcap")
			}
			var err error
			if request.Client, err = netip.ParseAddrPort(args[0]); err != nil {
				return invalidInput("%q is no address with a port, such as 192.0.2.7:40000 or [2001:db8::7]:40000", args[0])
			}
			request.Service = args[1]
			e, err := c.client().Explain(cmd.Context(), request)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, e, func(p *page) { p.explanation(&e) })
		},
	}
	cmd.Flags().Func("proto", "`tcp|udp|sctp`, where the service's address does not say it", func(text string) (err error) {
		request.Protocol, err = fromText[dataplane.Protocol](text)
		return err
	})
	completeFlag(cmd, "proto", "tcp", "udp", "sctp")
	portFlag(cmd, &request.Port, "port", "`PORT` that the packet goes to, for a service that has every port")
	cmd.Flags().StringVar(&request.Interface, "interface", "", "`NAME` of the interface that packets come in by, by default the daemon's first")
	completeFlag(cmd, "interface")
	cmd.Flags().StringVar(&capture, "pcap", "", "capture, a `FILE` in pcap or pcapng format; \"-\" is standard input")
	_ = cmd.MarkFlagFilename("pcap", "pcap", "pcapng", "cap") // fails only for an unknown flag
	cmd.Flags().StringVar(&manifest, "config", "", "manifest, a `FILE` in YAML or JSON: trace against it and not against the daemon")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	return outputFlag(cmd, formatTable, formatJSON, formatYAML, formatPcap)
}

// completeTraceArguments completes the second argument with the services.
func (c *cli) completeTraceArguments(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeService(cmd, nil, prefix)
}

// tracePcap traces every packet of a capture.
func (c *cli) tracePcap(cmd *cobra.Command, capture, manifest string, request control.ExplainRequest) error {
	if request.Protocol != 0 || request.Port != 0 {
		return usageError("--proto and --port go with CLIENT:PORT and SERVICE")
	}
	if manifest != "" && request.Interface != "" {
		return usageError("--interface is one of the daemon's, and --config asks no daemon")
	}
	packets, broken := c.readPcap(capture)
	if len(packets) == 0 && broken != nil {
		return broken
	}
	traced, err := c.traceFrames(cmd, manifest, request.Interface, packets)
	if err != nil {
		return err
	}
	if outputFormat(cmd) == formatPcap {
		err = c.writeTraced(packets, traced)
	} else {
		err = c.show(cmd, traced, func(p *page) { p.traced(traced) })
	}
	return cmp.Or(err, broken)
}

// traceFrames asks the daemon or, with a manifest, a program of its own.
func (c *cli) traceFrames(cmd *cobra.Command, manifest, device string, packets []pcapPacket) ([]control.TracedPacket, error) {
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = p.frame
	}
	if manifest == "" {
		return c.client().Trace(cmd.Context(), control.TraceRequest{Interface: device, Frames: frames})
	}
	m, err := c.readManifest(manifest)
	if err != nil {
		return nil, err
	}
	c.noteMissingMACs(m)
	return control.TraceManifest(m, frames)
}

// noteMissingMACs says why packets for some backends cannot leave.
func (c *cli) noteMissingMACs(m control.Manifest) {
	missing, all, first := 0, 0, ""
	for i := range m.Services {
		for j := range m.Services[i].Backends {
			all++
			if b := &m.Services[i].Backends[j]; b.MAC == "" {
				missing++
				first = cmp.Or(first, fmt.Sprintf("%s of %s", b.Address, m.Services[i].Address))
			}
		}
	}
	if missing > 0 {
		fmt.Fprintf(c.stderr, "sluice: no mac: is given for %d of %s, the first is %s: without a daemon that is how next hops are known, "+
			"so what goes to these ends as drop_next_hop_unresolved\n", missing, plural(all, "backend"), first)
	}
}

// writeTraced writes the packets that leave, as they would leave.
func (c *cli) writeTraced(packets []pcapPacket, traced []control.TracedPacket) error {
	var leaving []pcapPacket
	for i, t := range traced {
		if t.Action == "tx" || t.Action == "redirect" {
			leaving = append(leaving, pcapPacket{packets[i].time, t.Packet})
		}
	}
	written, err := pcapBytes(leaving)
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(written)
	return err
}

func (p *page) traced(traced []control.TracedPacket) {
	t := newTable("N", "ACTION", "REASON", "SERVICE", "BACKEND", "BYTES")
	counts := map[string]int{}
	for _, packet := range traced {
		counts[packet.Action]++
		how := plain
		if packet.Action == "drop" {
			how = red
		}
		t.add(number(float64(packet.N)), cell{text: packet.Action, style: how}, packet.Reason, packet.Service, packet.Backend, number(float64(len(packet.Packet))))
	}
	p.table(t)
	p.line("%s: %d sent back by the same interface, %d by another, %d passed to the host, %d dropped",
		plural(len(traced), "packet"), counts["tx"], counts["redirect"], counts["pass"], counts["drop"])
}

func (p *page) explanation(e *control.Explanation) {
	p.line("%s -> %s %s/%s", e.Client, e.Service, e.Destination, e.Protocol)
	row := func(name, format string, args ...any) { p.line("  %-9s %s", name, fmt.Sprintf(format, args...)) }
	if e.Set != "" {
		row("set", "%s, by the client's address", e.Set)
	}
	switch e.Cause {
	case dataplane.CauseFlow:
		row("flow", "is remembered: it stays with its backend")
	case dataplane.CauseAssociation:
		row("flow", "its SCTP association is remembered")
	case dataplane.CausePrevious:
		row("flow", "is older than a change of its slot: it stays with the backend that the slot had")
	case dataplane.CauseSecond:
		row("flow", "is new: the backend of its second slot had less load")
	case dataplane.CauseSlot:
		row("flow", "is not remembered: its slot decides")
	}
	if e.Slots > 0 {
		row("hash", "%#08x, of %s", e.Hash, describeHash(e.HashOf))
		row("slot", "%d of %d", e.Slot, e.Slots)
	}
	if e.Backend != "" {
		row("backend", "%s, %s, mode %s", e.Backend, e.Place, e.Mode)
		row("next hop", "%s", nextHop(e.NextHop).text)
	}
	row("ends as", "%s (%s)", e.Reason, e.Action)
}

// describeHash says in words what a hash is made of.
func describeHash(hash string) string {
	kind, prefix, _ := strings.Cut(hash, "/")
	switch {
	case kind == "flow":
		return "addresses, ports and protocol"
	case prefix != "":
		return "the first " + prefix + " bits of the client's address"
	case kind == "source":
		return "the client's address"
	case kind == "no-source-port":
		return "addresses, destination port and protocol"
	}
	return "the destination port"
}
