package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// off is what removes an option.
const off = "off"

// selectionFlags define what of a packet chooses its backend. Ranges are checked by the daemon.
func selectionFlags(cmd *cobra.Command, p *control.ServicePatch) {
	optional(cmd, &p.Hash, "hash", "what chooses the slot, a `KIND`: flow, source[/LENGTH], no-source-port or destination-port", fromText[dataplane.Hash])
	completeFlag(cmd, "hash", "flow", "source", "source/24", "no-source-port", "destination-port")
	optional(cmd, &p.ClampMSS, "clamp-mss", "largest segment that SYNs may announce: `off|auto|BYTES`", fromText[dataplane.MSS])
	completeFlag(cmd, "clamp-mss", "off", "auto")
	optional(cmd, &p.QUIC, "quic", "connection IDs name backends, `CONFIG/LENGTH` of QUIC-LB, such as 0/4; or off", parseQUIC)
	completeFlag(cmd, "quic", off)
	optional(cmd, &p.Limit, "limit", "`RATE`[:BURST][/LENGTH]: new flows per second of each source prefix, such as 100:200/24; or off", parseLimit)
	completeFlag(cmd, "limit", off)
	optional(cmd, &p.Policy, "policy", "how a new flow's backend is chosen: `maglev|p2c`", fromText[dataplane.Policy])
	completeFlag(cmd, "policy", "maglev", "p2c")
	optional(cmd, &p.Tracking, "tracking", "which flows are remembered: `full|just-enough|none`, or default", fromText[dataplane.Tracking])
	completeFlag(cmd, "tracking", "full", "just-enough", "none", "default")
	cmd.Flags().Func("source", "what becomes of clients: `PREFIX=deny|SET`; may be repeated; off removes all", func(text string) error {
		if p.Sources == nil {
			p.Sources = &[]dataplane.SourceRule{}
		}
		if text == off {
			return nil
		}
		rule, err := parseSource(text)
		*p.Sources = append(*p.Sources, rule)
		return err
	})
	completeFlag(cmd, "source", off)
}

func parseQUIC(text string) (dataplane.QUIC, error) {
	if text == off {
		return dataplane.QUIC{}, nil
	}
	config, length, _ := strings.Cut(text, "/")
	c, err1 := strconv.ParseUint(config, 10, 8)
	l, err2 := strconv.ParseUint(length, 10, 8)
	if err1 != nil || err2 != nil || l == 0 {
		return dataplane.QUIC{}, fmt.Errorf("%q is neither off nor CONFIG/LENGTH such as 0/4", text)
	}
	return dataplane.QUIC{Config: uint8(c), ServerIDLength: uint8(l)}, nil
}

func parseLimit(text string) (l dataplane.Limit, err error) {
	if text == off {
		return l, nil
	}
	rest, prefix, hasPrefix := strings.Cut(text, "/")
	rate, burst, hasBurst := strings.Cut(rest, ":")
	number := func(part string, bits int) uint32 {
		n, failed := strconv.ParseUint(part, 10, bits)
		if failed != nil || n == 0 {
			err = fmt.Errorf("%q is neither off nor RATE[:BURST][/LENGTH] such as 100, 100:200 or 100:200/24", text)
		}
		return uint32(n)
	}
	l.Rate = number(rate, 32)
	if hasBurst {
		l.Burst = number(burst, 32)
	}
	if hasPrefix {
		l.Prefix = uint8(number(prefix, 8))
	}
	return l, err
}

func parseSource(text string) (rule dataplane.SourceRule, err error) {
	prefix, set, ok := strings.Cut(text, "=")
	rule.Prefix, err = netip.ParsePrefix(prefix)
	if err != nil || !ok {
		return rule, fmt.Errorf("%q is not PREFIX=deny or PREFIX=SET, such as 192.0.2.0/24=deny", text)
	}
	if set == "deny" {
		rule.Deny = true
	} else {
		rule.Set = set
	}
	return rule, nil
}

// setFlags define what a backend is chosen by, and where it is.
func setFlags(cmd *cobra.Command, p *control.BackendPatch) {
	optional(cmd, &p.Set, "set", "`NAME` of a set of backends that sources send clients to; empty: that of all others", fromString[string])
	completeFlag(cmd, "set")
	optional(cmd, &p.ServerID, "server-id", "`HEX` that QUIC connection IDs name it by, or off", func(text string) (dataplane.ServerID, error) {
		if text == off {
			return "", nil
		}
		return fromText[dataplane.ServerID](text)
	})
	completeFlag(cmd, "server-id", off)
	optional(cmd, &p.Zone, "zone", "`NAME` of the zone it fails with, which scaling can survive", fromString[string])
	completeFlag(cmd, "zone")
	optional(cmd, &p.Rack, "rack", "`NAME` of the rack it fails with", fromString[string])
	completeFlag(cmd, "rack")
}
