package probe

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Dialer makes the sockets of probes. The zero value makes plain ones.
type Dialer struct {
	// Source is the address that they send from; the zero value is the kernel's choice.
	Source netip.Addr

	// Control changes a socket before it is connected, as that of net.Dialer does. It must be safe for
	// concurrent use.
	Control func(network, address string, socket syscall.RawConn) error
}

// Dial connects to an address by "tcp", "udp", or with a raw socket by "ip4:icmp" or "ip6:ipv6-icmp". The connection
// lasts until the context is done: then its reads and writes fail with os.ErrDeadlineExceeded. Closing a connection
// of TCP resets it.
func (d Dialer) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{Control: d.Control, KeepAlive: -1}
	address := to.String()
	if strings.HasPrefix(network, "ip") {
		address = to.Addr().String()
	}
	if d.Source.IsValid() {
		dialer.LocalAddr = localAddress(network, d.Source)
	}
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	return &conn{Conn: raw, stop: stop}, nil
}

func localAddress(network string, source netip.Addr) net.Addr {
	switch network {
	case "tcp":
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	case "udp":
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	default:
		return &net.IPAddr{IP: source.AsSlice(), Zone: source.Zone()}
	}
}

// conn is a connection that ends with its context.
type conn struct {
	net.Conn
	stop func() bool // forgets the context
}

// Close resets a connection of TCP (SO_LINGER of 0 s, tcp(7) and socket(7)).
func (c *conn) Close() error {
	c.stop()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return c.Conn.Close()
}
