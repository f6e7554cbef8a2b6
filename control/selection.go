package control

import (
	"fmt"
	"net"
	"slices"

	"github.com/sluicelb/sluice/dataplane"
)

// Selection is what of a packet, beside the Maglev tables, chooses its backend, and what it may not do.
type Selection struct {
	Hash     dataplane.Hash         `json:"hash,omitzero" doc:"What chooses the slot: flow, source, source/LENGTH, no-source-port or destination-port. Default: flow"`
	ClampMSS dataplane.MSS          `json:"clamp-mss,omitzero" doc:"The largest segment that SYNs may announce: off, auto or 536 to 65534 bytes. Default: off"`
	QUIC     dataplane.QUIC         `json:"quic,omitzero" doc:"How connection IDs name backends (QUIC-LB, plaintext). Default: not at all"`
	Limit    dataplane.Limit        `json:"limit,omitzero" doc:"Of the new flows of each source prefix. Default: none"`
	Policy   dataplane.Policy       `json:"policy,omitzero" enum:"maglev,p2c" doc:"How a new flow's backend is chosen: by its slot, or of two slots the one with fewer flows in progress. Default: maglev"`
	Tracking dataplane.Tracking     `json:"tracking,omitzero" enum:"default,full,just-enough,none" doc:"Which flows are remembered. Default: just-enough for tcp in the modes l2, ipip and gue, otherwise full"`
	Sources  []dataplane.SourceRule `json:"sources,omitempty" doc:"What becomes of clients by their prefix; the longest that matches decides"`
}

// Limits of the values in a Selection.
const (
	maxQUICConfig  = 6 // 7 is for connection IDs that no server routes by
	maxServerID    = 15
	maxLimit       = 1_000_000
	maxSourceRules = 1024
)

// MAC is a unicast Ethernet address; its text is that of net.HardwareAddr, "" is none.
type MAC string

// UnmarshalText accepts what net.ParseMAC does for 6 bytes.
func (m *MAC) UnmarshalText(text []byte) error {
	address, err := net.ParseMAC(string(text))
	if err != nil || len(address) != 6 || address[0]&1 != 0 {
		return fmt.Errorf("%q is no unicast Ethernet address such as 02:00:00:00:00:01", text)
	}
	*m = MAC(address.String())
	return nil
}

func (m MAC) hardware() net.HardwareAddr {
	address, _ := net.ParseMAC(string(m))
	return address
}

// clone returns a copy that shares nothing with s.
func (s Selection) clone() Selection {
	s.Sources = slices.Clone(s.Sources)
	return s
}

func (s Selection) equal(o Selection) bool {
	return s.Hash == o.Hash && s.ClampMSS == o.ClampMSS && s.QUIC == o.QUIC && s.Limit == o.Limit && s.Policy == o.Policy && s.Tracking == o.Tracking &&
		slices.Equal(s.Sources, o.Sources)
}

// Apply replaces what a patch names.
func (s *Selection) Apply(p ServicePatch) {
	replace(&s.Hash, p.Hash)
	replace(&s.ClampMSS, p.ClampMSS)
	replace(&s.QUIC, p.QUIC)
	replace(&s.Limit, p.Limit)
	replace(&s.Policy, p.Policy)
	replace(&s.Tracking, p.Tracking)
	if p.Sources != nil {
		s.Sources = slices.Clone(*p.Sources)
	}
}

func replace[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func (s *Service) checkSelection() *FieldError {
	bits := s.Address.BitLen()
	switch {
	case s.Protocol == dataplane.ProtocolSCTP && *s.Mode == dataplane.ModeNAT:
		return invalid("mode", "nat does not know sctp: use l2, ipip or gue")
	case int(s.Hash.Prefix) > bits:
		return invalid("hash", "%s: a prefix of %s has at most %d bits", s.Hash, s.Address, bits)
	case s.ClampMSS != 0 && s.Protocol != dataplane.ProtocolTCP:
		return invalid("clamp-mss", "is for tcp services, and this one is %s", s.Protocol)
	}
	if err := s.checkTracking(); err != nil {
		return err
	}
	if err := s.checkQUIC(); err != nil {
		return err.under("quic", "")
	}
	if err := s.checkLimit(bits); err != nil {
		return err.under("limit", "")
	}
	return s.checkSources()
}

func (s *Service) checkTracking() *FieldError {
	partial := s.Tracking == dataplane.TrackingJustEnough || s.Tracking == dataplane.TrackingNone
	switch {
	case partial && s.Protocol != dataplane.ProtocolTCP:
		return invalid("tracking", "%s is for tcp services, and this one is %s", s.Tracking, s.Protocol)
	case partial && *s.Mode == dataplane.ModeNAT:
		return invalid("tracking", "mode nat remembers every flow, so it cannot be %s", s.Tracking)
	case s.Policy == dataplane.PolicyP2C && s.Protocol != dataplane.ProtocolTCP:
		return invalid("policy", "p2c is for tcp services, and this one is %s", s.Protocol)
	case s.Policy == dataplane.PolicyP2C && s.Tracking == dataplane.TrackingNone:
		return invalid("policy", "p2c remembers flows, so tracking cannot be none")
	}
	return nil
}

func (s *Service) checkQUIC() *FieldError {
	switch q := s.QUIC; {
	case q == dataplane.QUIC{}:
		return nil
	case q.ServerIDLength < 1 || q.ServerIDLength > maxServerID:
		return invalid("server-id-length", "%d is not within 1..%d", q.ServerIDLength, maxServerID)
	case q.Config > maxQUICConfig:
		return invalid("config", "%d is not within 0..%d", q.Config, maxQUICConfig)
	case s.Protocol != dataplane.ProtocolUDP:
		return invalid("server-id-length", "quic is for udp services, and this one is %s", s.Protocol)
	}
	return nil
}

func (s *Service) checkLimit(bits int) *FieldError {
	switch l := s.Limit; {
	case l == dataplane.Limit{}:
		return nil
	case l.Rate < 1 || l.Rate > maxLimit:
		return invalid("rate", "%d is not within 1..%d new flows per second", l.Rate, maxLimit)
	case l.Burst > maxLimit:
		return invalid("burst", "%d is not within 1..%d new flows", l.Burst, maxLimit)
	case int(l.Prefix) > bits:
		return invalid("prefix", "%d is more than the %d bits of %s", l.Prefix, bits, s.Address)
	}
	return nil
}

func (s *Service) checkSources() *FieldError {
	if len(s.Sources) > maxSourceRules {
		return invalid("sources", "%d rules are more than %d", len(s.Sources), maxSourceRules)
	}
	first := make(map[string]int, len(s.Sources))
	for i, rule := range s.Sources {
		path := fmt.Sprintf("sources[%d]", i)
		switch {
		case !rule.Prefix.IsValid():
			return invalid(path+".prefix", "is missing")
		case rule.Prefix.Addr().Is4() != s.Address.Is4():
			return invalid(path+".prefix", "%s is not of the family of the service's %s", rule.Prefix, s.Address)
		case rule.Prefix != rule.Prefix.Masked():
			return invalid(path+".prefix", "%s has bits set behind its length: write %s", rule.Prefix, rule.Prefix.Masked())
		case rule.Deny && rule.Set != "":
			return invalid(path+".set", "contradicts deny")
		case rule.Set != "" && !validName(rule.Set):
			return invalid(path+".set", "%q is no name of a set", rule.Set)
		}
		if other, used := first[rule.Prefix.String()]; used {
			return invalid(path+".prefix", "%s is also that of sources[%d]", rule.Prefix, other)
		}
		first[rule.Prefix.String()] = i
	}
	return nil
}

func (b *Backend) checkSelection(s *Service) *FieldError {
	switch {
	case b.Set != "" && !validName(b.Set):
		return invalid("set", "%q is no name: lower-case letters, digits, '.' and '-', at most %d, no address", b.Set, maxNameLength)
	case b.ServerID != "" && s.QUIC == dataplane.QUIC{}:
		return invalid("server-id", "is for services with quic")
	case b.ServerID != "" && len(b.ServerID) != int(s.QUIC.ServerIDLength):
		return invalid("server-id", "%s has %d bytes, not the %d of quic.server-id-length", b.ServerID, len(b.ServerID), s.QUIC.ServerIDLength)
	}
	return nil
}

// checkReferences looks at what rules and backends say of one another.
func (s *Service) checkReferences() *FieldError {
	ids := make(map[dataplane.ServerID]int)
	sets := make(map[string]bool)
	for i, b := range s.Backends {
		sets[b.Set] = true
		if b.ServerID == "" {
			continue
		}
		if other, used := ids[b.ServerID]; used {
			return invalid(fmt.Sprintf("backends[%d].server-id", i), "%s is also that of backends[%d]", b.ServerID, other)
		}
		ids[b.ServerID] = i
	}
	for i, rule := range s.Sources {
		if rule.Set != "" && !sets[rule.Set] {
			return invalid(fmt.Sprintf("sources[%d].set", i), "no backend has the set %q", rule.Set)
		}
	}
	return nil
}
