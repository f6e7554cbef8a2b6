package lab

import (
	"context"
	"net"
	"net/netip"
)

// DialContext connects from the host. It is that of net.Dialer but for the address, which must be numeric:
// only then the socket is made by the calling goroutine, which is inside the namespace.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := numeric(address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host, on a numeric address: "[::]:80" is port 80 of all, IPv4 too.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	if err := numeric(address); err != nil {
		return nil, err
	}
	var listener net.Listener
	err := h.Do(func() (err error) {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(context.Background(), network, address)
		return err
	})
	return listener, err
}

// ListenPacket is Listen for datagrams.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	if err := numeric(address); err != nil {
		return nil, err
	}
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

func numeric(address string) error {
	_, err := netip.ParseAddrPort(address)
	return err
}
