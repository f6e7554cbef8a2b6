package packets

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// packet describes a frame. Descriptions are values: what should come out is the description of what went
// in, with what should differ.
type packet struct {
	from, to       net.HardwareAddr
	tags           []tag
	outer          *outer
	source, target netip.Addr
	ttl, tos       uint8
	id             uint32              // identification of IPv4, and of IPv6 fragments
	mayFragment    bool                // IPv4
	options        []layers.IPv4Option // IPv4
	chain          []extension         // IPv6
	protocol       layers.IPProtocol
	sport, dport   uint16
	flags          string // of TCP: letters of FSRPAUEC
	tcpOptions     []byte // whole words
	kind, code     uint8  // of ICMP
	vtag           uint32 // verification tag of SCTP
	payload        []byte // of ICMP: all behind the checksum
	noChecksum     bool   // UDP
	badChecksum    bool   // of the transport header: wrong by a fixed amount
	part           *part
	edit           func(ip []byte) []byte // the last change of the IP packet
	padding        int                    // bytes behind the IP packet
}

// tag is a VLAN tag: its EtherType, priority and VLAN.
type tag struct {
	kind     layers.EthernetType
	priority uint8
	vlan     uint16
}

// extension is an IPv6 extension header; its first byte is filled in.
type extension struct {
	protocol layers.IPProtocol
	bytes    []byte
}

// part is a fragment: the bytes of the transport header and payload that it carries.
type part struct {
	offset, length int // a multiple of 8
	more           bool
}

// outer is what ipip and gue put around a packet. What a hash decides, the flow label and gue's source port,
// has a placeholder.
type outer struct {
	source, target netip.Addr
	gue            bool
}

const (
	guePort        = 6080
	placeholder    = 1024  // of ports that nat chooses
	guePlaceholder = 49152 // of gue's source ports
)

// frame is the packet as it is on the wire.
func (p packet) frame() []byte {
	ip := p.ip()
	if p.edit != nil {
		ip = p.edit(ip)
	}
	family := p.source
	if p.outer != nil {
		ip, family = p.outer.around(p, ip), p.outer.source
	}
	frame := append(p.link(family), ip...)
	return append(frame, make([]byte, p.padding)...)
}

func etherType(a netip.Addr) layers.EthernetType {
	if a.Is4() {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

func (p packet) link(family netip.Addr) []byte {
	types := make([]layers.EthernetType, 0, 3)
	for _, tag := range p.tags {
		types = append(types, tag.kind)
	}
	types = append(types, etherType(family))
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: p.from, DstMAC: p.to, EthernetType: types[0]}}
	for i, tag := range p.tags {
		parts = append(parts, &layers.Dot1Q{Priority: tag.priority, VLANIdentifier: tag.vlan, Type: types[i+1]})
	}
	return serialise(parts...)[:14+4*len(p.tags)] // without the padding to 60 bytes
}

// ip is the IP packet with right lengths and checksums.
func (p packet) ip() []byte {
	content := p.transport()
	if p.part != nil {
		content = content[p.part.offset:][:p.part.length]
	}
	if p.source.Is4() {
		return serialise(p.ipv4(), gopacket.Payload(content))
	}
	return serialise(p.ipv6(), gopacket.Payload(append(p.extensions(), content...)))
}

func (p packet) ipv4() *layers.IPv4 {
	header := &layers.IPv4{
		Version: 4, TTL: p.ttl, TOS: p.tos, Id: uint16(p.id), Protocol: p.protocol,
		SrcIP: p.source.AsSlice(), DstIP: p.target.AsSlice(), Options: p.options,
	}
	if !p.mayFragment {
		header.Flags = layers.IPv4DontFragment
	}
	if p.part != nil {
		header.FragOffset = uint16(p.part.offset / 8)
		if p.part.more {
			header.Flags = layers.IPv4MoreFragments
		}
	}
	return header
}

func (p packet) ipv6() *layers.IPv6 {
	next := p.protocol
	if chain := p.wholeChain(); len(chain) > 0 {
		next = chain[0].protocol
	}
	return &layers.IPv6{
		Version: 6, HopLimit: p.ttl, TrafficClass: p.tos, FlowLabel: 0x12345, NextHeader: next,
		SrcIP: p.source.AsSlice(), DstIP: p.target.AsSlice(),
	}
}

// wholeChain is the chain with the fragment header of a part.
func (p packet) wholeChain() []extension {
	if p.part == nil {
		return p.chain
	}
	header := make([]byte, 8)
	offset := uint16(p.part.offset)
	if p.part.more {
		offset |= 1
	}
	binary.BigEndian.PutUint16(header[2:], offset)
	binary.BigEndian.PutUint32(header[4:], p.id)
	return append(slices.Clone(p.chain), extension{layers.IPProtocolIPv6Fragment, header})
}

// extensions are the bytes of the chain, each header naming the next.
func (p packet) extensions() []byte {
	var all []byte
	chain := p.wholeChain()
	for i, e := range chain {
		next := p.protocol
		if i+1 < len(chain) {
			next = chain[i+1].protocol
		}
		all = append(all, byte(next))
		all = append(all, e.bytes[1:]...)
	}
	return all
}

// transport is the transport header and what follows.
func (p packet) transport() []byte {
	var network gopacket.NetworkLayer = p.ipv6()
	if p.source.Is4() {
		network = p.ipv4()
	}
	at, bytes := 0, []byte(nil)
	switch p.protocol {
	case layers.IPProtocolTCP:
		at, bytes = 16, p.tcp(network)
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		must(udp.SetNetworkLayerForChecksum(network))
		at, bytes = 6, serialise(udp, gopacket.Payload(p.payload))
		if p.noChecksum {
			clear(bytes[at:][:2])
		} else if binary.BigEndian.Uint16(bytes[at:]) == 0 {
			binary.BigEndian.PutUint16(bytes[at:], 0xffff) // 0 means none (RFC 768)
		}
	case layers.IPProtocolSCTP:
		sctp := &layers.SCTP{SrcPort: layers.SCTPPort(p.sport), DstPort: layers.SCTPPort(p.dport), VerificationTag: p.vtag}
		at, bytes = 8, serialise(sctp, gopacket.Payload(p.payload))
	case layers.IPProtocolICMPv4:
		icmp := &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(p.kind, p.code),
			Id:       binary.BigEndian.Uint16(p.payload), Seq: binary.BigEndian.Uint16(p.payload[2:]),
		}
		at, bytes = 2, serialise(icmp, gopacket.Payload(p.payload[4:]))
	case layers.IPProtocolICMPv6:
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.kind, p.code)}
		must(icmp.SetNetworkLayerForChecksum(network))
		at, bytes = 2, serialise(icmp, gopacket.Payload(p.payload))
	default:
		return p.payload
	}
	if p.badChecksum {
		replace(bytes, at, -1, 0x1234, 0)
	}
	return bytes
}

// tcp puts the options in as they are, right or wrong.
func (p packet) tcp(network gopacket.NetworkLayer) []byte {
	has := func(letter string) bool { return strings.Contains(p.flags, letter) }
	header := &layers.TCP{
		SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: 1000, Ack: 2000, Window: 500,
		FIN: has("F"), SYN: has("S"), RST: has("R"), PSH: has("P"), ACK: has("A"), URG: has("U"), ECE: has("E"), CWR: has("C"),
	}
	must(header.SetNetworkLayerForChecksum(network))
	bytes := serialise(header, gopacket.Payload(append(slices.Clone(p.tcpOptions), p.payload...)))
	word := binary.BigEndian.Uint16(bytes[12:])
	put(bytes, 12, 16, word+uint16(len(p.tcpOptions)/4)<<12)
	return bytes
}

// around puts the outer headers in front of an IP packet.
func (o *outer) around(p packet, ip []byte) []byte {
	inner := layers.IPProtocolIPv4
	if p.source.Is6() {
		inner = layers.IPProtocolIPv6
	}
	next, content := inner, gopacket.Payload(ip)
	if o.gue {
		next = layers.IPProtocolUDP
		content = append(gueHeader(inner, len(ip)), ip...)
	}
	if o.source.Is4() {
		return serialise(&layers.IPv4{
			Version: 4, TTL: 64, TOS: p.tos, Flags: layers.IPv4DontFragment, Protocol: next,
			SrcIP: o.source.AsSlice(), DstIP: o.target.AsSlice(),
		}, content)
	}
	return serialise(&layers.IPv6{
		Version: 6, HopLimit: 64, TrafficClass: p.tos, NextHeader: next,
		SrcIP: o.source.AsSlice(), DstIP: o.target.AsSlice(),
	}, content)
}

// gueHeader is UDP without a checksum and the four bytes of GUE's variant 0.
func gueHeader(inner layers.IPProtocol, length int) []byte {
	header := make([]byte, 12)
	binary.BigEndian.PutUint16(header[0:], guePlaceholder)
	binary.BigEndian.PutUint16(header[2:], guePort)
	binary.BigEndian.PutUint16(header[4:], uint16(len(header)+length))
	header[9] = byte(inner)
	return header
}

// headerLength is the length of the IP header with options or extension headers.
func (p packet) headerLength() int {
	if p.source.Is4() {
		return len(serialise(p.ipv4()))
	}
	return 40 + len(p.extensions())
}

func serialise(parts ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return slices.Clone(buffer.Bytes())
}

// put writes a word, and mends the checksum that covers it.
func put(bytes []byte, at, checksum int, word uint16) {
	replace(bytes, checksum, at, word, binary.BigEndian.Uint16(bytes[at:]))
}

// replace adds to a checksum what a new word in place of an old one does (RFC 1624), and writes the new word
// at the offset unless that is less than 0. So does the checksum's.
func replace(bytes []byte, checksum, at int, word, old uint16) {
	if at >= 0 {
		binary.BigEndian.PutUint16(bytes[at:], word)
	}
	if checksum < 0 {
		return
	}
	sum := uint32(^binary.BigEndian.Uint16(bytes[checksum:])) + uint32(^old) + uint32(word)
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(bytes[checksum:], ^uint16(sum))
}

func mac(text string) net.HardwareAddr {
	address, err := net.ParseMAC(text)
	must(err)
	return address
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// number is a text with a number, as names of cases have them.
func number(text string, n int) string { return text + " " + strconv.Itoa(n) }

// must is for what cannot fail: the cases are constants.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// nth is the address of a host in a network of 24 bits (IPv4) or 56 bits (IPv6), of the packet's family.
func nth(p packet, host, network int) netip.Addr {
	if p.source.Is4() {
		return netip.AddrFrom4([4]byte{10, 1, byte(network), byte(host + 1)})
	}
	return netip.MustParseAddr("2001:db8:" + strconv.FormatInt(int64(0x100+network), 16) + "::" + strconv.Itoa(host+1))
}
