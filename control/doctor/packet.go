package doctor

import (
	"encoding/binary"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// guePort is GUE_PORT in headers/protocol.h.
const guePort = 6080

// segment is a TCP segment without data.
type segment struct {
	source, destination netip.AddrPort
	sequence            uint32
	syn, reset          bool
}

// packet builds the IP packet that carries the segment.
func (s segment) packet() []byte {
	const ttl = 64
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(s.source.Port()), DstPort: layers.TCPPort(s.destination.Port()),
		Seq: s.sequence, SYN: s.syn, RST: s.reset, Window: 1024,
	}
	from, to := s.source.Addr().AsSlice(), s.destination.Addr().AsSlice()
	if s.source.Addr().Is4() {
		ip := &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment, SrcIP: from, DstIP: to}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		return serialize(ip, tcp)
	}
	ip := &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocolTCP, SrcIP: from, DstIP: to}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	return serialize(ip, tcp)
}

// serialize cannot fail: the headers are made here, and written to memory.
func serialize(headers ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, headers...)
	return buffer.Bytes()
}

// heard is what a received packet says of a probe.
type heard struct {
	acknowledged uint32 // of an answer: the probe's sequence number and one
	reset        bool   // of an answer
	refuses      end    // of an ICMP error
}

// end is one end of a tunnel, and the protocol that its outer header announces. Comparable.
type end struct {
	address  netip.Addr
	protocol uint8
}

// listen reads an IP packet. It returns false for one that answers no probe.
func listen(packet []byte) (heard, bool) {
	first := layers.LayerTypeIPv4
	if len(packet) > 0 && packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	decoded := gopacket.NewPacket(packet, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if tcp, ok := decoded.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
		return heard{acknowledged: tcp.Ack, reset: tcp.RST}, tcp.ACK && (tcp.SYN || tcp.RST)
	}
	// What follows quotes the outer header: of IPv4 the protocol is at 9 and the destination at 16, of IPv6,
	// behind the pointer of 4 bytes, at 6 and 24.
	if icmp, ok := decoded.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && len(icmp.Payload) >= 20 {
		protocol := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeProtocol)
		port := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)
		address, _ := netip.AddrFromSlice(icmp.Payload[16:20])
		isGUE := icmp.Payload[9] == unix.IPPROTO_UDP && isToGUE(icmp.Payload[20:])
		return heard{refuses: end{address, icmp.Payload[9]}}, icmp.TypeCode == protocol || icmp.TypeCode == port && isGUE
	}
	if icmp, ok := decoded.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && len(icmp.Payload) >= 44 {
		header := layers.CreateICMPv6TypeCode(layers.ICMPv6TypeParameterProblem, layers.ICMPv6CodeUnrecognizedNextHeader)
		port := layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)
		address, _ := netip.AddrFromSlice(icmp.Payload[4+24 : 4+40])
		isGUE := icmp.Payload[4+6] == unix.IPPROTO_UDP && isToGUE(icmp.Payload[4+40:])
		return heard{refuses: end{address, icmp.Payload[4+6]}}, icmp.TypeCode == header || icmp.TypeCode == port && isGUE
	}
	return heard{}, false
}

// isToGUE tells whether a UDP header, or what is left of it, is that of gue.
func isToGUE(header []byte) bool {
	return len(header) >= 4 && binary.BigEndian.Uint16(header[2:]) == guePort
}

// answersTo is a classic BPF program for a packet socket without link headers (SOCK_DGRAM). It lets TCP to
// one port through, and ICMP: a balancer may route far more than a doctor can read.
func answersTo(port uint16) []unix.SockFilter {
	const (
		loadByte  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		loadHalf  = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadAfter = unix.BPF_LD | unix.BPF_H | unix.BPF_IND
		headerX   = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
		and       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		equal     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result    = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		0:  {Code: loadByte, K: 0},
		1:  {Code: and, K: 0xf0},
		2:  {Code: equal, K: 0x60, Jt: 6},
		3:  {Code: loadByte, K: 9}, // IPv4: protocol
		4:  {Code: equal, K: unix.IPPROTO_ICMP, Jt: 9},
		5:  {Code: equal, K: unix.IPPROTO_TCP, Jf: 7},
		6:  {Code: headerX, K: 0},
		7:  {Code: loadAfter, K: 2},
		8:  {Code: equal, K: uint32(port), Jt: 5, Jf: 4},
		9:  {Code: loadByte, K: 6}, // IPv6: next header
		10: {Code: equal, K: unix.IPPROTO_ICMPV6, Jt: 3},
		11: {Code: loadHalf, K: 40 + 2},
		12: {Code: equal, K: uint32(port), Jt: 1},
		13: {Code: result, K: 0},
		14: {Code: result, K: 1 << 16},
	}
}

// hostToNetwork returns a number whose bytes in memory are those of value on the wire.
func hostToNetwork(value uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, value))
}
