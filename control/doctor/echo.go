package doctor

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// echoTimeout is how long an echo reply may take, and echoTries how often it is asked for.
const (
	echoTimeout = 300 * time.Millisecond
	echoTries   = 3
)

// swallows says whether an address answers a small echo request and not one of the given size in bytes, which
// is not fragmented. An address that answers none, or a host that may not ask, tells nothing.
func swallows(ctx context.Context, address netip.Addr, size int) bool {
	const small = 84 // what ping sends
	return !echoes(ctx, address, size) && echoes(ctx, address, small)
}

// echoes says whether an echo request of that size is answered.
func echoes(ctx context.Context, address netip.Addr, size int) bool {
	network, header := "ip4:icmp", 20+8
	if address.Is6() {
		network, header = "ip6:ipv6-icmp", 40+8
	}
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { dontFragment(int(fd), address.Is6()) })
	}}
	conn, err := dialer.DialContext(ctx, network, address.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	request, id := echoRequest(conn, make([]byte, size-header))
	for range echoTries {
		// A failure is an ICMP error to the one before, or for want of room on the interface.
		if _, err := conn.Write(request); err == nil && awaitEcho(conn, address.Is6(), id) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// dontFragment has packets sent as they are, whatever the kernel has learnt of the path.
func dontFragment(fd int, ipv6 bool) {
	if ipv6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
}

// echoRequest returns an ICMP packet and its identifier.
func echoRequest(conn net.Conn, payload gopacket.Payload) ([]byte, uint16) {
	id := uint16(rand.Uint32())
	from, to := conn.LocalAddr().(*net.IPAddr).IP, conn.RemoteAddr().(*net.IPAddr).IP
	if to.To4() != nil {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id}
		return serialize(icmp, payload), id
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	_ = icmp.SetNetworkLayerForChecksum(&layers.IPv6{SrcIP: from, DstIP: to, NextHeader: layers.IPProtocolICMPv6})
	return serialize(icmp, &layers.ICMPv6Echo{Identifier: id}, payload), id
}

// awaitEcho waits for the reply.
func awaitEcho(conn net.Conn, ipv6 bool, id uint16) bool {
	_ = conn.SetReadDeadline(time.Now().Add(echoTimeout))
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return false
		}
		if isEchoReply(buffer[:n], ipv6, id) {
			return true
		}
	}
}

// isEchoReply reads what a raw socket got: with the IP header for IPv4, without for IPv6 (raw(7), RFC 3542).
func isEchoReply(packet []byte, ipv6 bool, id uint16) bool {
	first := layers.LayerTypeIPv4
	if ipv6 {
		first = layers.LayerTypeICMPv6
	}
	decoded := gopacket.NewPacket(packet, first, gopacket.NoCopy)
	if icmp, ok := decoded.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return icmp.TypeCode.Type() == layers.ICMPv4TypeEchoReply && icmp.Id == id
	}
	icmp, ok1 := decoded.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	echo, ok2 := decoded.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo)
	return ok1 && ok2 && icmp.TypeCode.Type() == layers.ICMPv6TypeEchoReply && echo.Identifier == id
}
