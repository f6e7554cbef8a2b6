package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// TracedPacket is what would become of one packet of a capture.
type TracedPacket struct {
	N       int    `json:"n" doc:"Its place in the capture, from 1"`
	Action  string `json:"action" enum:"tx,redirect,pass,drop"`
	Reason  string `json:"reason" doc:"How it ends: to_backend, to_client, or why not"`
	Service string `json:"service" doc:"Empty when it is for none"`
	Backend string `json:"backend" doc:"Empty when none was chosen"`
	Packet  Hex    `json:"packet" doc:"The frame as it would leave, or as it was when it was dropped"`
}

// Hex is bytes whose text is hexadecimal.
type Hex []byte

// MarshalText returns the hexadecimal form.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText accepts the hexadecimal form.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Next hops of a trace without a daemon: what Ethernet carries, and the addresses of a host that has none
// (RFC 7600, section 4.8; RFC 6666).
const offlineMTU = 1500

var dummy4, dummy6 = netip.MustParseAddr("192.0.0.8"), netip.MustParseAddr("100::")

// TraceManifest runs Ethernet frames through the program as a daemon would that had just been given the manifest:
// every backend healthy, no flow known. A backend's next hop is the manifest's mac, and this host's address
// towards it the service's own. Frames leave by the interface that they came in by. It needs the right to load BPF
// programs; nothing outside this process changes.
func TraceManifest(m Manifest, frames [][]byte) ([]TracedPacket, error) {
	m = m.clone()
	if problem := m.complete(builtinDefaults); problem != nil {
		return nil, problem
	}
	d, err := dataplane.Open(dataplane.Options{Limits: offlineLimits(m), Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("a trace needs the right to load BPF programs: run it as root: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for i := range m.Services {
		s := &m.Services[i]
		g := make(groups)
		g.update(s, builtinDefaults.Health, time.Now(), func(*Backend) (health.Verdict, health.Measures) {
			return health.Verdict{Up: true}, health.Measures{Success: 1}
		})
		if err := d.SetService(s.evaluate(g.judgement(s)).service); err != nil {
			return nil, err
		}
		if err := s.setNextHops(d); err != nil {
			return nil, err
		}
	}
	traced, err := d.Trace(frames, 0)
	return m.traced(traced), err
}

// offlineLimits are as large as the manifest asks for.
func offlineLimits(m Manifest) dataplane.Limits {
	limits := dataplane.Limits{Services: 1, Backends: 1, Flows: 1}
	for i := range m.Services {
		limits.Services += uint32(1 + len(m.Services[i].Backends)) // each may be in a set of its own
		limits.Backends += uint32(len(m.Services[i].Backends))
	}
	return limits
}

func (s *Service) setNextHops(d *dataplane.Dataplane) error {
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.MAC == "" {
			continue // its packets end as drop_next_hop_unresolved
		}
		hop := dataplane.NextHop{Resolved: true, MAC: b.MAC.hardware(), MTU: offlineMTU, Source: s.Address}
		switch {
		case s.Address.Is4() && b.Address.Is6():
			hop.Source = dummy6
		case s.Address.Is6() && b.Address.Is4():
			hop.Source = dummy4
		}
		if err := d.SetNextHop(s.Key(), b.place(), hop); err != nil {
			return err
		}
	}
	return nil
}

// traced names the services and backends of traced packets.
func (m Manifest) traced(packets []dataplane.Traced) []TracedPacket {
	traced := make([]TracedPacket, len(packets))
	for i, p := range packets {
		service, backend := m.names(p.Verdict)
		traced[i] = TracedPacket{N: i + 1, Action: p.Action, Reason: p.Reason, Service: service, Backend: backend, Packet: p.Frame}
	}
	return traced
}

// names returns what the user calls the service and the backend of a packet. One that is not known any more is
// named by its address.
func (m Manifest) names(v dataplane.Verdict) (service, backend string) {
	if !v.Served {
		return "", ""
	}
	service = v.Service.String()
	if v.Backend.IsValid() {
		backend = v.Backend.String()
	}
	for i := range m.Services {
		s := &m.Services[i]
		if s.Key() != v.Service {
			continue
		}
		if v.Backend.IsValid() {
			backend = s.nameOf(v.Backend)
		}
		return s.Name, backend
	}
	return service, backend
}

// TraceRequest is a capture to run through the live tables.
type TraceRequest struct {
	Interface string `json:"interface,omitempty" doc:"That the packets come in by. Default: the first one of the daemon"`
	Frames    Frames `json:"frames" doc:"Ethernet frames"`
}

// Frames are bytes whose JSON is base64, as of every []byte.
type Frames [][]byte

// Schema describes them. huma's own description refuses a frame without bytes, which captures may have.
func (Frames) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Description: "In base64"}}
}

// trace runs frames through a copy of what is live.
func (d *Daemon) trace(r TraceRequest) ([]TracedPacket, error) {
	ifindex, err := d.interfaceIndex(r.Interface)
	if err != nil {
		return nil, err
	}
	traced, err := d.dataplane.Trace(r.Frames, ifindex)
	return d.store.Manifest().traced(traced), err
}

// interfaceIndex finds one of the daemon's interfaces, the first one for "".
func (d *Daemon) interfaceIndex(name string) (int, error) {
	for _, i := range d.dataplane.Interfaces() {
		if i.Index == 0 {
			continue
		}
		if i.Name == name || name == "" && i.Name == d.config.Interfaces[0] {
			return i.Index, nil
		}
	}
	return 0, tag(ErrInvalid, "interface %q is none that the daemon is attached to (%s)", name, fmt.Sprint(d.config.Interfaces))
}
