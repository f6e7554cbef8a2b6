package dataplane

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// HashKind is what of a packet chooses its slot.
type HashKind uint8

// The kinds of hashes. Their values are those of enum hash_kind in headers/sluice.h.
const (
	HashFlow            HashKind = iota // addresses, ports and protocol
	HashSource                          // the source address, or a prefix of it, alone: a client keeps its backend
	HashNoSourcePort                    // all but the source port
	HashDestinationPort                 // the destination port alone
)

var hashNames = names[HashKind]{
	{HashFlow, "flow"}, {HashSource, "source"}, {HashNoSourcePort, "no-source-port"}, {HashDestinationPort, "destination-port"},
}

// Hash says what of a packet chooses its slot. Prefix, of HashSource only, is the number of leading bits of
// the source address that count, 0 all of them.
type Hash struct {
	Kind   HashKind
	Prefix uint8
}

// String returns the kind's name, with the length of the prefix if there is one: "source/24".
func (h Hash) String() string {
	if h.Prefix == 0 {
		return hashNames.text(h.Kind)
	}
	return hashNames.text(h.Kind) + "/" + strconv.Itoa(int(h.Prefix))
}

// MarshalText returns String.
func (h Hash) MarshalText() ([]byte, error) {
	_, err := hashNames.marshal(h.Kind, "hash")
	return []byte(h.String()), err
}

// UnmarshalText accepts "flow", "source", "source/1" to "source/128", "no-source-port" and
// "destination-port".
func (h *Hash) UnmarshalText(text []byte) error {
	kind, prefix, hasPrefix := strings.Cut(string(text), "/")
	if err := hashNames.unmarshal(&h.Kind, []byte(kind), "hash"); err != nil {
		return err
	}
	h.Prefix = 0
	if !hasPrefix {
		return nil
	}
	length, err := strconv.ParseUint(prefix, 10, 8)
	if err != nil || length < 1 || length > 128 || h.Kind != HashSource {
		return fmt.Errorf("%q is no hash: only source takes a prefix length, such as source/24", text)
	}
	h.Prefix = uint8(length)
	return nil
}

// MSS is the largest TCP segment that SYNs may announce, in bytes: 0 leaves them as they are, MSSAuto is what
// fits the way to the backend.
type MSS uint16

// MSSAuto is the next hop's MTU less the outer headers and those of IP and TCP.
const MSSAuto MSS = 65535

// minMSS is what every IPv4 host must take (RFC 9293, section 3.7.1).
const minMSS = 536

// String returns "off", "auto" or the number.
func (m MSS) String() string {
	switch m {
	case 0:
		return "off"
	case MSSAuto:
		return "auto"
	}
	return strconv.Itoa(int(m))
}

// MarshalText returns String.
func (m MSS) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts "off", "auto" and 536 to 65534.
func (m *MSS) UnmarshalText(text []byte) error {
	switch string(text) {
	case "off":
		*m = 0
		return nil
	case "auto":
		*m = MSSAuto
		return nil
	}
	bytes, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || bytes < minMSS || MSS(bytes) == MSSAuto {
		return fmt.Errorf("%q is no maximum segment size (known: off, auto, %d..%d)", text, minMSS, MSSAuto-1)
	}
	*m = MSS(bytes)
	return nil
}

// QUIC says how connection IDs name backends: the plaintext encoding of QUIC-LB
// (draft-ietf-quic-load-balancers, section 5.2).
type QUIC struct {
	Config         uint8 `json:"config"`           // the three bits of the first octet, 0..6
	ServerIDLength uint8 `json:"server-id-length"` // bytes, 1..15
}

// String returns for example "0/4": the configuration and the length of server IDs.
func (q QUIC) String() string { return fmt.Sprintf("%d/%d", q.Config, q.ServerIDLength) }

// ServerID is a server ID of QUIC-LB, its bytes. Its text is hexadecimal.
type ServerID string

// String returns the hexadecimal form.
func (s ServerID) String() string { return hex.EncodeToString([]byte(s)) }

// MarshalText returns String.
func (s ServerID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// maxServerID is the longest server ID of QUIC-LB, in bytes.
const maxServerID = 15

// UnmarshalText accepts 1 to 15 bytes in hexadecimal, and nothing.
func (s *ServerID) UnmarshalText(text []byte) error {
	bytes, err := hex.DecodeString(string(text))
	if err != nil || len(bytes) > maxServerID {
		return fmt.Errorf("%q is no server ID: 1 to %d bytes in hexadecimal, such as c0ffee", text, maxServerID)
	}
	*s = ServerID(bytes)
	return nil
}

// Limit bounds the new flows of each source prefix: a token bucket.
type Limit struct {
	Rate   uint32 `json:"rate"`             // new flows per second, 1..1,000,000
	Burst  uint32 `json:"burst,omitempty"`  // flows at once, 1..1,000,000; 0 is as many as Rate
	Prefix uint8  `json:"prefix,omitempty"` // leading bits of the source address that share a bucket; 0 is all
}

// String returns for example "100/s burst 200 prefix 24".
func (l Limit) String() string {
	text := fmt.Sprintf("%d/s", l.Rate)
	if l.Burst != 0 {
		text += fmt.Sprintf(" burst %d", l.Burst)
	}
	if l.Prefix != 0 {
		text += fmt.Sprintf(" prefix %d", l.Prefix)
	}
	return text
}

// SourceRule says what becomes of a service's packets from a prefix. Of several rules the one with the
// longest prefix decides; without one the backends without a set serve.
type SourceRule struct {
	Prefix netip.Prefix `json:"prefix"`
	Deny   bool         `json:"deny,omitempty"` // dropped
	Set    string       `json:"set,omitempty"`  // otherwise: the backends with this Set, "" are those without
}

// String returns for example "192.0.2.0/24=deny", "10.0.0.0/8=canary" or, for the backends without a set,
// "10.0.0.0/8=".
func (r SourceRule) String() string {
	if r.Deny {
		return r.Prefix.String() + "=deny"
	}
	return r.Prefix.String() + "=" + r.Set
}
