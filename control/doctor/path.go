package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
)

// path is what probes found on the way of the traffic to a backend that answers clients directly.
type path struct {
	place
	vip    outcome // of a connection to the service, at this very backend
	own    outcome // of a plain connection to the backend's own address, when the service is silent
	inside outcome // of the same connection inside the tunnel, when the plain one is not silent
	err    error   // why there was no probe
}

// parallel is how many backends are probed at once.
const parallel = 128

// probePaths probes every backend that answers clients directly, once for all checks.
func (p *patient) probePaths() ([]path, error) {
	if p.paths != nil {
		return p.paths, nil
	}
	prober, err := newProber()
	if err != nil {
		return nil, err
	}
	defer prober.close()
	for _, at := range p.places() {
		if at.direct() && at.backend.NextHop.Resolved && !at.farL2() {
			p.paths = append(p.paths, path{place: at})
		}
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range p.paths {
		group.Go(func() error {
			p.paths[i].err = p.paths[i].probe(p.ctx, prober)
			return nil
		})
	}
	return p.paths, group.Wait()
}

func (w *path) probe(ctx context.Context, prober *prober) error {
	source, err := w.source()
	if err != nil {
		return err
	}
	send, done, err := w.sender()
	if err != nil {
		return err
	}
	defer done()
	address := w.backend.Address
	if w.vip, err = prober.try(ctx, source, w.server(w.service.Address), send, w.end()); w.vip != silent {
		return err
	}
	if w.own = connect(ctx, w.server(address)); w.own != silent && w.tunnelled() && source.Is4() == address.Is4() {
		w.inside, err = prober.try(ctx, source, w.server(address), send, w.end())
	}
	return err
}

func (w *path) tunnelled() bool { return w.service.Mode.Encapsulates() }

// inner is the protocol number that says which family is inside a tunnel.
func (w *path) inner() uint8 {
	if w.service.Address.Is6() {
		return unix.IPPROTO_IPV6
	}
	return unix.IPPROTO_IPIP
}

// end is that of the tunnel, or zero.
func (w *path) end() end {
	switch w.service.Mode {
	case dataplane.ModeIPIP:
		return end{w.backend.Address, w.inner()}
	case dataplane.ModeGUE:
		return end{w.backend.Address, unix.IPPROTO_UDP}
	}
	return end{}
}

// server adds the port to an address. Where the service has none, any answer shows that the address is there.
func (w *path) server(address netip.Addr) netip.AddrPort {
	port := w.service.Port
	if port == 0 {
		port = max(w.service.Probe.Port, 1)
	}
	return netip.AddrPortFrom(address, port)
}

// source returns an address of this host, of the service's family, that the backend can answer to.
func (w *path) source() (netip.Addr, error) {
	hop := w.backend.NextHop
	candidates := []netip.Addr{hop.Source}
	if link, err := net.InterfaceByName(hop.Interface); err == nil {
		own, _ := link.Addrs() // without them there are too few candidates
		for _, a := range own {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				candidates = append(candidates, prefix.Addr())
			}
		}
	}
	for _, c := range candidates {
		if c.IsGlobalUnicast() && c.Is4() == w.service.Address.Is4() && c != w.service.Address {
			return c, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no address of the family of %s to probe from", hop.Interface, w.service.Address)
}

// sender carries packets as the service's mode does.
func (w *path) sender() (send, func(), error) {
	switch w.service.Mode {
	case dataplane.ModeL2:
		return w.frames()
	case dataplane.ModeIPIP:
		network := map[bool]string{true: "ip6:", false: "ip4:"}[w.backend.Address.Is6()]
		return tunnel(network+strconv.Itoa(int(w.inner())), w.backend.Address.String(), nil)
	case dataplane.ModeGUE:
		return tunnel("udp", netip.AddrPortFrom(w.backend.Address, guePort).String(), []byte{0, w.inner(), 0, 0})
	}
	return nil, nil, fmt.Errorf("mode %s has no probe", w.service.Mode)
}

// frames sends to the backend's MAC address.
func (w *path) frames() (send, func(), error) {
	link, err := netlink.LinkByName(w.backend.NextHop.Interface)
	if err != nil {
		return nil, nil, err
	}
	to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: hostToNetwork(unix.ETH_P_IP)}
	if w.service.Address.Is6() {
		to.Protocol = hostToNetwork(unix.ETH_P_IPV6)
	}
	mac, err := neighbour(link.Attrs().Index, w.backend.Address)
	if err != nil {
		return nil, nil, err
	}
	to.Halen = uint8(copy(to.Addr[:], mac))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return func(packet []byte) error { return unix.Sendto(fd, packet, 0, to) }, func() { unix.Close(fd) }, nil
}

// neighbour looks up a MAC address in the kernel's table.
func neighbour(link int, address netip.Addr) (net.HardwareAddr, error) {
	all, err := netlink.NeighList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if a, _ := netip.AddrFromSlice(n.IP); a.Unmap() == address && len(n.HardwareAddr) == 6 {
			return n.HardwareAddr, nil
		}
	}
	return nil, fmt.Errorf("the neighbour %s is not known", address)
}

// tunnel sends inside packets to the backend, behind a header; the kernel makes the outer ones.
func tunnel(network, address string, header []byte) (send, func(), error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, nil, err
	}
	send := func(packet []byte) error {
		_, err := conn.Write(append(header[:len(header):len(header)], packet...))
		if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EPROTO) || errors.Is(err, unix.ECONNREFUSED) {
			return nil // the ICMP error to the packet before, which is heard otherwise
		}
		return err
	}
	return send, func() { conn.Close() }, nil
}

// connect makes a plain connection and closes it.
func connect(ctx context.Context, server netip.AddrPort) outcome {
	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	switch {
	case err == nil:
		conn.Close()
		return answers
	case errors.Is(err, unix.ECONNREFUSED):
		return resets
	}
	return silent
}
