package packetcost

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// Everybody but the balancer itself is at the generator's end, where all that comes is dropped.
//
//	generator              far
//	sink ----------------- balancer 198.51.100.1
//	sink ----------------- empty
//	sink ----------------- encapsulator
const (
	labPrefix = "sluice-dataplane"

	gateway4, gateway6   = "198.51.100.2", "2001:db8:fe::2" // to the backends
	balancer4, balancer6 = "198.51.100.1/24", "2001:db8:fe::1/64"

	// mtu leaves room for outer headers around packets of 1500 bytes.
	mtu = 1600
)

// The ends of every veth pair, so that the same frames fit all.
var (
	nearMAC = net.HardwareAddr{2, 0, 0, 0, 1, 1}
	farMAC  = net.HardwareAddr{2, 0, 0, 0, 1, 2}
)

// lane is a veth pair, with what is measured at its far end and a sink at the near one.
type lane struct {
	name      string
	near, far int // of the interfaces
	sink      *generator.Sink
}

// The lanes; their number is that of contenders.
const (
	laneBalancer = iota
	laneEmpty
	laneEncapsulator
	contenders
)

var laneNames = [contenders]string{"balancer", "empty", "encapsulator"}

// site is where everything is measured.
type site struct {
	*stage.Stage
	near, far *lab.Host
	lanes     [contenders]*lane
	empty     link.Link
}

func newSite() (_ *site, err error) {
	s := new(site)
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.near, err = s.Host("generator"); err != nil {
		return nil, err
	}
	if s.far, err = s.Host("far"); err != nil {
		return nil, err
	}
	// Nothing but what is generated comes.
	if err := s.near.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
		return nil, err
	}
	for i, name := range laneNames {
		if s.lanes[i], err = s.newLane(name); err != nil {
			return nil, err
		}
	}
	err = s.far.Do(func() (err error) {
		s.empty, err = generator.AttachEmpty(s.lanes[laneEmpty].far)
		return err
	})
	return s, errors.Join(err, s.route())
}

func (s *site) newLane(name string) (*lane, error) {
	l := &lane{name: name}
	err := s.Connect(s.near, name, s.far, name, lab.LinkOptions{MTU: mtu, MAC: nearMAC, PeerMAC: farMAC})
	if err != nil {
		return nil, err
	}
	for index, h := range map[*int]*lab.Host{&l.near: s.near, &l.far: s.far} {
		netdev, err := h.Netlink().LinkByName(name)
		if err != nil {
			return nil, err
		}
		*index = netdev.Attrs().Index
	}
	return l, s.near.Do(func() (err error) {
		l.sink, err = generator.AttachSink(l.near)
		return err
	})
}

// route tells the balancer's host the way to the backends. The sink answers nobody who asks for a MAC address.
func (s *site) route() error {
	err := s.far.Addr(s.lanes[laneBalancer].name, balancer4, balancer6)
	for gateway, backends := range map[string]netip.Prefix{gateway4: backendNets[IPv4], gateway6: backendNets[IPv6]} {
		err = errors.Join(err, s.far.Netlink().NeighSet(&netlink.Neigh{
			LinkIndex: s.lanes[laneBalancer].far, IP: net.ParseIP(gateway), HardwareAddr: nearMAC, State: netlink.NUD_PERMANENT,
		}), s.far.Route(backends.String(), gateway))
	}
	return err
}

// close removes everything that was made.
func (s *site) close() error {
	var errs []error
	for _, l := range s.lanes {
		if l != nil && l.sink != nil {
			errs = append(errs, l.sink.Close())
		}
	}
	if s.empty != nil {
		errs = append(errs, s.empty.Close())
	}
	return errors.Join(append(errs, s.Stage.Close())...)
}

// setup is what is there for one case.
type setup struct {
	*site
	Case
	dataplane    *dataplane.Dataplane
	encapsulator link.Link
	programs     [contenders]*ebpf.Program
}

// prepare makes a balancer that knows no flow yet, with one service.
func (s *site) prepare(c Case, backends int) (_ *setup, err error) {
	u := &setup{site: s, Case: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.close())
		}
	}()
	err = s.far.Do(func() (err error) {
		u.encapsulator, err = generator.AttachEncapsulator(s.lanes[laneEncapsulator].far, c.Family == IPv6)
		if err != nil {
			return err
		}
		if u.dataplane, err = openDataplane(s.Pins, c, backends); err != nil {
			return err
		}
		_, err = u.dataplane.Attach(s.lanes[laneBalancer].name, dataplane.XDPNative)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, l := range s.lanes {
		if u.programs[i], err = attached(s.far.Netlink(), l.name); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// attached returns the XDP program of an interface.
func attached(h *netlink.Handle, name string) (*ebpf.Program, error) {
	netdev, err := h.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if netdev.Attrs().Xdp == nil {
		return nil, fmt.Errorf("interface %s has no XDP program any more", name)
	}
	return ebpf.NewProgramFromID(ebpf.ProgramID(netdev.Attrs().Xdp.ProgId))
}

// close takes everything of the case away.
func (u *setup) close() error {
	return u.far.Do(func() error {
		var errs []error
		for _, p := range u.programs {
			errs = append(errs, p.Close()) // of nil too
		}
		if u.encapsulator != nil {
			errs = append(errs, u.encapsulator.Close())
		}
		return errors.Join(append(errs, closeDataplane(u.dataplane, u.Pins))...)
	})
}
