package control

import (
	"cmp"
	"errors"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicelb/sluice/dataplane"
)

// ExplainRequest is a client's packet, as far as choosing a backend goes.
type ExplainRequest struct {
	Client    netip.AddrPort     `json:"client" doc:"Address and port that the packet comes from"`
	Service   string             `json:"service" doc:"Name or address of the service"`
	Port      uint16             `json:"port,omitempty" doc:"That the packet goes to; only for a service that has every port"`
	Protocol  dataplane.Protocol `json:"protocol,omitzero" enum:"tcp,udp,sctp" doc:"Only where the service's address does not say it"`
	Interface string             `json:"interface,omitempty" doc:"That the packet comes in by. Default: the first one of the daemon"`
}

// Explanation says where a client's packet goes, and why.
type Explanation struct {
	Client      netip.AddrPort     `json:"client"`
	Service     string             `json:"service"`
	Destination netip.AddrPort     `json:"destination"`
	Protocol    dataplane.Protocol `json:"protocol" enum:"tcp,udp,sctp"`
	Action      string             `json:"action" enum:"tx,redirect,pass,drop"`
	Reason      string             `json:"reason" doc:"How it ends: to_backend, or why not"`
	Backend     string             `json:"backend" doc:"Empty when none was chosen"`
	Place       string             `json:"place" doc:"The backend's address and port"`
	Cause       dataplane.Cause    `json:"cause" enum:"none,slot,flow,association,connection-id,reply,previous,second-slot" doc:"What chose the backend"`
	Hash        uint32             `json:"hash" doc:"Of what the service's hash looks at; 0 unless a slot was looked at"`
	HashOf      string             `json:"hash-of"`
	Slot        uint32             `json:"slot" doc:"Of the table, 0 to slots-1"`
	Slots       uint32             `json:"slots" doc:"Size of the table; 0 when none was looked at"`
	Set         string             `json:"set" doc:"Of backends that the client's address chose"`
	Mode        dataplane.Mode     `json:"mode" enum:"nat,l2,ipip,gue"`
	NextHop     dataplane.NextHop  `json:"next-hop"`
}

// explain finds out by giving such a packet to a copy of the program. A connection that goes on is asked about,
// not a new one: TCP without SYN.
func (d *Daemon) explain(r ExplainRequest) (Explanation, error) {
	ifindex, err := d.interfaceIndex(r.Interface)
	if err != nil {
		return Explanation{}, err
	}
	m := d.store.Manifest()
	i, err := r.find(m)
	if err != nil {
		return Explanation{}, err
	}
	s := m.Services[i]
	e := Explanation{
		Client: r.Client, Service: s.Name, Protocol: s.Protocol, Mode: *s.Mode, HashOf: s.Hash.String(),
		Destination: netip.AddrPortFrom(s.Address, cmp.Or(s.Port, r.Port)),
	}
	if err := e.check(r, &s); err != nil {
		return Explanation{}, err
	}
	frame := clientFrame(r.Client, e.Destination, s.Protocol)
	traced, err := d.dataplane.Trace([][]byte{frame}, ifindex)
	if err != nil {
		return Explanation{}, err
	}
	v := traced[0].Verdict
	e.Action, e.Reason, e.Cause, e.Set = v.Action, v.Reason, v.Cause, v.Set
	e.Hash, e.Slot, e.Slots = v.Hash, v.Slot, v.Slots
	if v.Backend.IsValid() {
		_, e.Backend = m.names(v)
		e.Place = v.Backend.String()
		e.NextHop = d.nextHop(s.Key(), v.Backend)
	}
	return e, nil
}

// find returns the index of the service that is meant. An address with a port that no service has means the one
// that has every port of that address.
func (r *ExplainRequest) find(m Manifest) (int, error) {
	r.Client = netip.AddrPortFrom(r.Client.Addr().Unmap(), r.Client.Port())
	address, port, err := ParseAddress(r.Service)
	if err != nil {
		return m.find(r.Service)
	}
	suffix := ""
	if r.Protocol != 0 {
		suffix = "/" + r.Protocol.String()
	}
	i, notFound := m.find(r.Service + suffix)
	if errors.Is(notFound, ErrNotFound) && port != 0 {
		if i, err := m.find("[" + address.String() + "]:*" + suffix); err == nil {
			r.Port = cmp.Or(r.Port, port)
			return i, nil
		}
	}
	return i, notFound
}

func (e *Explanation) check(r ExplainRequest, s *Service) error {
	switch {
	case !r.Client.IsValid():
		return tag(ErrInvalid, "client is missing; give ADDRESS:PORT")
	case r.Client.Addr().Unmap().Is4() != s.Address.Is4():
		return tag(ErrInvalid, "client %s is not of the family of %s's %s", r.Client, s.Name, s.Address)
	case s.Port == 0 && r.Port == 0:
		return tag(ErrInvalid, "service %s has every port: say which one the packet goes to (--port)", s.Name)
	case s.Port != 0 && r.Port != 0 && r.Port != s.Port:
		return tag(ErrInvalid, "service %s has port %d, not %d", s.Name, s.Port, r.Port)
	case r.Protocol != 0 && r.Protocol != s.Protocol:
		return tag(ErrInvalid, "service %s has protocol %s, not %s", s.Name, s.Protocol, r.Protocol)
	}
	return nil
}

// nextHop returns where packets for a backend leave this host.
func (d *Daemon) nextHop(key dataplane.ServiceKey, backend netip.AddrPort) dataplane.NextHop {
	status, _ := d.dataplane.ServiceStatus(key)
	for _, b := range status.Backends {
		if netip.AddrPortFrom(b.Address, b.Port) == backend {
			return b.NextHop
		}
	}
	return dataplane.NextHop{}
}

// clientFrame is a packet of a connection that goes on, in the shortest frame.
func clientFrame(client, service netip.AddrPort, protocol dataplane.Protocol) []byte {
	const ttl = 64
	link := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
	from, to := client.Addr().AsSlice(), service.Addr().AsSlice()
	var network interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocol(protocol), SrcIP: from, DstIP: to}
	if client.Addr().Is6() {
		link.EthernetType = layers.EthernetTypeIPv6
		network = &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocol(protocol), SrcIP: from, DstIP: to}
	}
	var transport gopacket.SerializableLayer
	switch protocol {
	case dataplane.ProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(client.Port()), DstPort: layers.UDPPort(service.Port())}
		_ = udp.SetNetworkLayerForChecksum(network)
		transport = udp
	case dataplane.ProtocolSCTP:
		transport = &layers.SCTP{SrcPort: layers.SCTPPort(client.Port()), DstPort: layers.SCTPPort(service.Port())}
	default:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(client.Port()), DstPort: layers.TCPPort(service.Port()), ACK: true}
		_ = tcp.SetNetworkLayerForChecksum(network)
		transport = tcp
	}
	buffer := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, link, network, transport)
	return buffer.Bytes() // serialising headers that are made here cannot fail
}
