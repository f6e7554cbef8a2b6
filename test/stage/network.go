package stage

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
)

// The network of a benchmark, IPv4 only. The addresses are those for documentation (RFC 5737).
//
//	client               balancer                        switch    backends
//	eth0 ------- clients          backends ------------- |    | --- eth0
//	198.51.100.2         .1       203.0.113.1                       203.0.113.11, .12, ...
//
// The service's own address is on no interface of the balancer, and in the modes other than nat on lo of the
// backends, whose answers the balancer only routes.
const (
	Uplink         = "eth0" // of the client and the backends
	Interfaces     = "clients,backends"
	ServiceName    = "web"
	ServiceAddress = "192.0.2.10"
	ServicePort    = "80"
	Target         = ServiceAddress + ":" + ServicePort
	ClientNet      = "198.51.100.0/24"
	ClientGateway  = "198.51.100.1"
	BackendNet     = "203.0.113.0/24"
	Gateway        = "203.0.113.1" // of the backends
	MaxBackends    = 200

	// Outer headers have room between the balancer and the backends, as operations.md asks for.
	backendMTU = 1600
)

// Network is a client, the balancer's host, and backends behind a switch.
type Network struct {
	Client, Balancer *lab.Host
	Backends         []Backend // b1, b2, ...

	stage    *Stage
	ethernet *lab.Switch
}

// Backend is a host that has no servers yet.
type Backend struct {
	*lab.Host
	Address string
}

// Network makes the hosts, so many backends among them, 1..MaxBackends.
func (s *Stage) Network(backends int) (*Network, error) {
	n := &Network{stage: s}
	var err error
	if n.Client, err = s.Host("client"); err != nil {
		return nil, err
	}
	if n.Balancer, err = s.Host("balancer"); err != nil {
		return nil, err
	}
	if n.ethernet, err = s.Switch("switch"); err != nil {
		return nil, err
	}
	err = errors.Join(
		s.Connect(n.Client, Uplink, n.Balancer, "clients", lab.LinkOptions{}),
		n.ethernet.Join(n.Balancer, "backends", lab.LinkOptions{MTU: backendMTU}),
		n.Client.Addr(Uplink, "198.51.100.2/24"),
		n.Client.Route("192.0.2.0/24", ClientGateway),
		n.Balancer.Addr("clients", ClientGateway+"/24"),
		n.Balancer.Addr("backends", Gateway+"/24"),
		n.Balancer.Forward(),
	)
	for range backends {
		_, joined := n.AddBackend()
		err = errors.Join(err, joined)
	}
	return n, err
}

// AddBackend makes one more, of MaxBackends at most. It is not safe for concurrent use.
func (n *Network) AddBackend() (Backend, error) {
	number := len(n.Backends) + 1
	if number > MaxBackends {
		return Backend{}, fmt.Errorf("there are %d backends already", MaxBackends)
	}
	h, err := n.stage.Host("b" + strconv.Itoa(number))
	if err != nil {
		return Backend{}, err
	}
	b := Backend{h, "203.0.113." + strconv.Itoa(10+number)}
	n.Backends = append(n.Backends, b)
	return b, errors.Join(
		n.ethernet.Join(h, Uplink, lab.LinkOptions{MTU: backendMTU}),
		h.Addr(Uplink, b.Address+"/24"),
		h.Route(ClientNet, Gateway),
	)
}

// Receive lets a backend receive traffic of a mode, as docs/operations.md says.
func (s *Stage) Receive(h *lab.Host, mode dataplane.Mode) error {
	if mode == dataplane.ModeNAT {
		return nil
	}
	err := errors.Join(
		h.Addr("lo", ServiceAddress+"/32"),
		h.Sysctl("net.ipv4.conf.all.arp_ignore", "1"),
		h.Sysctl("net.ipv4.conf.all.arp_announce", "2"),
	)
	if err != nil || !mode.Encapsulates() {
		return err
	}
	pins := fmt.Sprintf("%s-%s", s.Pins, h.Name())
	s.decaps = append(s.decaps, pins)
	return h.Do(func() error {
		_, err := dataplane.AttachDecap(Uplink, dataplane.XDPAuto, pins)
		return err
	})
}

// fullShare is at least how much of an equal share of the slots a backend has when it takes its full part.
const fullShare = 0.95

// Unequal returns what is missing until every backend takes an equal part of the new flows, or nil.
func Unequal(status control.Status) error {
	for _, service := range status.Services {
		for _, b := range service.Backends {
			if b.State != control.StateUp || !b.NextHop.Resolved || b.Share < fullShare/float64(len(service.Backends)) {
				return fmt.Errorf("backend %s is %s with %.1f %% of the slots: %s", b.Name, b.State, b.Share*100, b.Cause+b.NextHop.Reason)
			}
		}
	}
	return nil
}
