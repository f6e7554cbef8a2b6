package dataplane

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/dataplane/maglev"
	"github.com/sluicelb/sluice/dataplane/nexthop"
)

// Protocol is an IP protocol number (IANA "Protocol Numbers") that a service can have.
type Protocol uint8

// The protocols of services.
const (
	ProtocolTCP  Protocol = 6
	ProtocolUDP  Protocol = 17
	ProtocolSCTP Protocol = 132 // not in nat mode
)

var protocolNames = names[Protocol]{{ProtocolTCP, "tcp"}, {ProtocolUDP, "udp"}, {ProtocolSCTP, "sctp"}}

// String returns "tcp", "udp" or "sctp", or the number of any other protocol.
func (p Protocol) String() string { return protocolNames.text(p) }

// MarshalText returns the protocol's name. It fails for a protocol that services cannot have.
func (p Protocol) MarshalText() ([]byte, error) { return protocolNames.marshal(p, "protocol") }

// UnmarshalText accepts "tcp", "udp" and "sctp".
func (p *Protocol) UnmarshalText(text []byte) error {
	return protocolNames.unmarshal(p, text, "protocol")
}

// Mode is the way a packet reaches its backend.
type Mode uint8

// The modes. Their values are those of enum mode in headers/sluice.h.
const (
	ModeNAT  Mode = iota // both directions through Sluice, addresses and ports rewritten
	ModeL2               // MAC rewrite, the backend answers the client directly
	ModeIPIP             // IP-in-IP encapsulation, the backend answers the client directly
	ModeGUE              // the same inside UDP, so that routers and NIC queues spread flows
)

var modeNames = names[Mode]{{ModeNAT, "nat"}, {ModeL2, "l2"}, {ModeIPIP, "ipip"}, {ModeGUE, "gue"}}

// String returns the mode's name.
func (m Mode) String() string { return modeNames.text(m) }

// Encapsulates tells whether packets travel inside others, which may be of another family.
func (m Mode) Encapsulates() bool { return m == ModeIPIP || m == ModeGUE }

// DirectReturn tells whether backends answer clients directly, from the service's address.
func (m Mode) DirectReturn() bool { return m != ModeNAT }

// MarshalText returns the mode's name.
func (m Mode) MarshalText() ([]byte, error) { return modeNames.marshal(m, "mode") }

// UnmarshalText accepts "nat", "l2", "ipip" and "gue".
func (m *Mode) UnmarshalText(text []byte) error { return modeNames.unmarshal(m, text, "mode") }

// XDPMode is the place in the receive path where an XDP program runs.
type XDPMode uint8

// The XDP modes.
const (
	XDPAuto    XDPMode = iota // native where the driver has it, otherwise generic
	XDPNative                 // in the driver, before an skb exists
	XDPGeneric                // in the network stack, on an skb: works everywhere, slower
)

var xdpModeNames = names[XDPMode]{{XDPAuto, "auto"}, {XDPNative, "native"}, {XDPGeneric, "generic"}}

// String returns the mode's name.
func (m XDPMode) String() string { return xdpModeNames.text(m) }

// MarshalText returns the mode's name.
func (m XDPMode) MarshalText() ([]byte, error) { return xdpModeNames.marshal(m, "XDP mode") }

// UnmarshalText accepts "auto", "native" and "generic".
func (m *XDPMode) UnmarshalText(text []byte) error {
	return xdpModeNames.unmarshal(m, text, "XDP mode")
}

// names maps the values of an enumeration to their texts, in the order they are shown to the user.
type names[T ~uint8] []struct {
	value T
	name  string
}

func (n names[T]) text(value T) string {
	for _, e := range n {
		if e.value == value {
			return e.name
		}
	}
	return strconv.Itoa(int(value))
}

func (n names[T]) marshal(value T, what string) ([]byte, error) {
	for _, e := range n {
		if e.value == value {
			return []byte(e.name), nil
		}
	}
	return nil, fmt.Errorf("%d is no %s", value, what)
}

func (n names[T]) unmarshal(value *T, text []byte, what string) error {
	known := make([]string, len(n))
	for i, e := range n {
		if e.name == strings.ToLower(string(text)) {
			*value = e.value
			return nil
		}
		known[i] = e.name
	}
	return fmt.Errorf("%q is no %s (known: %s)", text, what, strings.Join(known, ", "))
}

// ServiceKey names a service: the address, port and protocol that clients talk to. Comparable.
type ServiceKey struct {
	Address  netip.Addr
	Port     uint16 // 0 is every port
	Protocol Protocol
}

// String returns for example "10.0.0.1:80/tcp", "[2001:db8::1]:53/udp" or, for every port, "10.0.0.1:*/tcp".
func (k ServiceKey) String() string {
	port := "*"
	if k.Port != 0 {
		port = strconv.Itoa(int(k.Port))
	}
	return net.JoinHostPort(k.Address.String(), port) + "/" + k.Protocol.String()
}

// Compare orders keys by address, then port, then protocol.
func (k ServiceKey) Compare(other ServiceKey) int {
	return cmp.Or(k.Address.Compare(other.Address), cmp.Compare(k.Port, other.Port), cmp.Compare(k.Protocol, other.Protocol))
}

// Service is what the kernel is asked to do for one service.
type Service struct {
	ServiceKey
	Mode     Mode
	Hash     Hash
	ClampMSS MSS
	QUIC     QUIC  // zero: connection IDs are not looked at
	Limit    Limit // zero: none
	Policy   Policy
	Tracking Tracking
	Sources  []SourceRule // in any order; Prefix is unique
	Backends []Backend    // in any order; (Address, Port) is unique
}

// Backend is one server of a service, as the kernel needs to know it.
type Backend struct {
	Address netip.Addr
	Port    uint16 // destination port in nat mode, 0 keeps the client's; ignored in the other modes
	Weight  uint16 // effective weight, 0..1000; 0 takes no new flows and keeps its existing ones
	Down    bool   // its flows are treated as unknown: they move to another backend

	Set      string   // the set it belongs to, "" is the one of clients that no rule names
	ServerID ServerID // what QUIC connection IDs name it by, "" is nothing
}

// Limits are the sizes of the kernel's tables, fixed while the pinned objects live but for TableSlots.
// A zero field means the one of DefaultLimits.
type Limits struct {
	Services   uint32 `json:"services"`    // 1..65536
	Backends   uint32 `json:"backends"`    // in all services together, 1..MaxBackends
	Slots      uint32 `json:"slots"`       // of all Maglev tables together, 8 bytes each
	TableSlots uint32 `json:"table-slots"` // of the largest Maglev table, see maglev.Size
	Flows      uint32 `json:"flows"`       // remembered per address family, 200 bytes (IPv4) to 270 (IPv6) each
}

// MaxBackends is the largest limit of backends: the mark of a probe has room for that index (bpf/probe.c), a slot for a
// larger one.
const MaxBackends = probeIndex

// DefaultLimits hold 4,096 services and 65,535 backends however they are distributed.
var DefaultLimits = Limits{Services: 4096, Backends: 65535, Slots: 16 << 20, TableSlots: maglev.DefaultTop, Flows: 512 << 10}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// String returns for example "1024-32767".
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// MarshalText returns String.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText accepts FIRST-LAST with 1 <= FIRST <= LAST <= 65535.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, ok := strings.Cut(string(text), "-")
	low, err1 := strconv.ParseUint(first, 10, 16)
	high, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err1 != nil || err2 != nil || low == 0 || low > high {
		return fmt.Errorf("%q is no range of ports such as 1024-32767", text)
	}
	*r = PortRange{First: uint16(low), Last: uint16(high)}
	return nil
}

// Interface is a network interface with Sluice's program on it.
type Interface struct {
	Name   string  `json:"name"`
	Index  int     `json:"index"`            // 0 when the program is not there any more
	Mode   XDPMode `json:"mode"`             // native or generic
	Reason string  `json:"reason,omitempty"` // why it is generic or not there, empty when native
	Up     bool    `json:"up"`

	// Those that share the interface, in the order in which they run, the balancer among them. Empty where the
	// balancer is alone.
	Programs []XDPProgram `json:"programs,omitempty"`
}

// Counters are sums since the backend was added.
type Counters struct {
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"` // of whole frames as received from clients
	NewFlows uint64 `json:"new-flows"`
	Replies  uint64 `json:"replies"` // packets back to clients, in nat mode
}

// NextHop is where packets for a backend leave this host.
type NextHop = nexthop.Hop

// BackendStatus is what the kernel knows of one backend.
type BackendStatus struct {
	Address netip.Addr
	Port    uint16
	Counters
	Slots   int // of the service's Maglev table
	Active  int // flows in progress, as far as their ends were seen; with policy p2c
	NextHop NextHop
}

// ServiceStatus is what the kernel knows of one service.
type ServiceStatus struct {
	Slots    int // size of the Maglev tables, 0 when no backend takes new flows
	Tracking TrackingStatus
	Backends []BackendStatus
}

// TrackingStatus says which of a service's flows are remembered, and why.
type TrackingStatus struct {
	Kind          Tracking `json:"kind"` // in force
	Stable        int      `json:"slots-stable"`
	InTransition  int      `json:"slots-in-transition"`
	OldestSeconds int      `json:"oldest-transition-seconds"` // 0 without one; an adopted one counts since then
	Remembered    int      `json:"remembered-flows"`          // as counted within the last minute
}

// Stats describe the tables of the dataplane since it was opened.
type Stats struct {
	TableRewrites uint64        `json:"table-rewrites"`
	LastRewrite   time.Duration `json:"last-rewrite-ns"`
	TotalRewrite  time.Duration `json:"total-rewrite-ns"`
	SlotsUsed     int           `json:"slots-used"`
	SlotsTotal    int           `json:"slots-total"`
	BackendsUsed  int           `json:"backends-used"`
	BackendsTotal int           `json:"backends-total"`
	ServicesUsed  int           `json:"services-used"`
	ServicesTotal int           `json:"services-total"`
	SignalEvery   uint32        `json:"signal-every"` // one flow of so many tells Signals; 0: nobody listens
	SignalsLost   uint64        `json:"signals-lost"` // since the dataplane was opened
}
