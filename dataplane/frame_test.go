package dataplane

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// packet describes a frame of these tests; build makes it, so an expected frame is the description of the
// sent one with what should differ.
type packet struct {
	from, to       net.HardwareAddr
	vlans          []uint16
	outer          *outer
	source, target netip.Addr
	sport, dport   uint16
	protocol       Protocol
	syn, fin, rst  bool
	ttl            uint8
	tos            uint8
	options        []layers.IPv4Option
	firstExtension layers.IPProtocol // IPv6; 0 is none
	extensions     []byte
	noChecksum     bool
	mayFragment    bool // IPv4
	payload        string
	padding        int // bytes behind the IP packet
}

// outer is an encapsulating header.
type outer struct {
	source, target netip.Addr
	flowLabel      uint32
	port           uint16 // of gue, the source's; 0 is ipip
}

// frame serialises the packet with right lengths and checksums.
func (p packet) frame(t testing.TB) []byte {
	t.Helper()
	network := p.network()
	bytes := serialise(t, network.(gopacket.SerializableLayer), gopacket.Payload(p.extensions), p.transport(network), gopacket.Payload(p.payload))
	if p.noChecksum {
		clear(bytes[len(bytes)-len(p.payload)-2:][:2])
	}
	if p.outer != nil {
		bytes = serialise(t, p.outer.network(p), gopacket.Payload(append(p.outer.gue(p, len(bytes)), bytes...)))
	}
	bytes = append(bytes, make([]byte, p.padding)...)
	link := serialise(t, p.link()...)
	return append(link[:14+4*len(p.vlans)], bytes...) // gopacket pads frames to 60 bytes
}

func serialise(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return buffer.Bytes()
}

func (p packet) link() []gopacket.SerializableLayer {
	types := []layers.EthernetType{etherType(p.source)}
	if p.outer != nil {
		types[0] = etherType(p.outer.source)
	}
	switch len(p.vlans) {
	case 1:
		types = []layers.EthernetType{layers.EthernetTypeDot1Q, types[0]}
	case 2:
		types = []layers.EthernetType{layers.EthernetTypeQinQ, layers.EthernetTypeDot1Q, types[0]}
	}
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: p.from, DstMAC: p.to, EthernetType: types[0]}}
	for i, id := range p.vlans {
		parts = append(parts, &layers.Dot1Q{VLANIdentifier: id, Type: types[i+1]})
	}
	return parts
}

func etherType(a netip.Addr) layers.EthernetType {
	if a.Is4() {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

func (p packet) network() gopacket.NetworkLayer {
	ttl := p.ttl
	if ttl == 0 {
		ttl = 64
	}
	if p.source.Is4() {
		flags := layers.IPv4DontFragment
		if p.mayFragment {
			flags = 0
		}
		return &layers.IPv4{
			Version: 4, TTL: ttl, TOS: p.tos, Id: 7, Flags: flags, Protocol: layers.IPProtocol(p.protocol),
			SrcIP: p.source.AsSlice(), DstIP: p.target.AsSlice(), Options: p.options,
		}
	}
	next := layers.IPProtocol(p.protocol)
	if p.firstExtension != 0 {
		next = p.firstExtension
	}
	return &layers.IPv6{
		Version: 6, HopLimit: ttl, TrafficClass: p.tos, FlowLabel: 99, NextHeader: next,
		SrcIP: p.source.AsSlice(), DstIP: p.target.AsSlice(),
	}
}

func (p packet) transport(network gopacket.NetworkLayer) gopacket.SerializableLayer {
	if p.protocol == ProtocolUDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		_ = udp.SetNetworkLayerForChecksum(network)
		return udp
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: 1000, Window: 500,
		SYN: p.syn, FIN: p.fin, RST: p.rst, ACK: !p.syn && !p.rst,
	}
	_ = tcp.SetNetworkLayerForChecksum(network)
	return tcp
}

// gue is what Sluice puts between the outer IP header and a packet of so many bytes.
func (o *outer) gue(inner packet, length int) []byte {
	if o.port == 0 {
		return nil
	}
	header := binary.BigEndian.AppendUint16(nil, o.port)
	header = binary.BigEndian.AppendUint16(header, 6080)
	header = binary.BigEndian.AppendUint16(header, uint16(12+length))
	return append(header, 0, 0, 0, byte(ipProtocol(inner.source)), 0, 0)
}

// ipProtocol is what says that an IP packet of the address's family is inside.
func ipProtocol(a netip.Addr) layers.IPProtocol {
	if a.Is4() {
		return layers.IPProtocolIPv4
	}
	return layers.IPProtocolIPv6
}

// network is the outer IP header.
func (o *outer) network(inner packet) gopacket.SerializableLayer {
	protocol := ipProtocol(inner.source)
	if o.port != 0 {
		protocol = layers.IPProtocolUDP
	}
	if o.source.Is4() {
		return &layers.IPv4{
			Version: 4, TTL: 64, TOS: inner.tos, Flags: layers.IPv4DontFragment, Protocol: protocol,
			SrcIP: o.source.AsSlice(), DstIP: o.target.AsSlice(),
		}
	}
	return &layers.IPv6{
		Version: 6, HopLimit: 64, TrafficClass: inner.tos, FlowLabel: o.flowLabel, NextHeader: protocol,
		SrcIP: o.source.AsSlice(), DstIP: o.target.AsSlice(),
	}
}

// wantFrame compares frames byte by byte, and shows them by layers when they differ.
func wantFrame(t testing.TB, got, want []byte) {
	t.Helper()
	if string(got) == string(want) {
		return
	}
	dump := func(b []byte) string {
		return gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default).Dump()
	}
	t.Errorf("frame differs (-want +got):\n%s", cmp.Diff(dump(want), dump(got)))
}
