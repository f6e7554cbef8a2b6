package main

import (
	"errors"
	"fmt"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// Each product has a host of its own between the client and the backends, with cables of its own, so that nothing has to
// be changed between two measurements:
//
//	client                     HOST                        backends
//	HOST ------------- clients      backends ------------- HOST
//	10.1.N.2                .1      10.2.N.1               10.2.N.11 ... 14
//
// All backends are one host, which counts and drops. The service's address is 192.0.2.N.
type site struct {
	*stage.Stage
	client     *lab.Host
	backends   *lab.Host
	hosts      int
	contenders []contender
}

// contender is one way to reach the backends, which is measured.
type contender struct {
	name     string
	target   string // ADDRESS:PORT of the service
	protocol int    // of the packets that must reach the backends
	sink     *sink
}

// Protocols of packets that reach the backends (RFC 5237's registry).
const (
	ipip = 4
	udp  = 17
)

const (
	backendCount = 4

	// Ports of the services by the way to the backends.
	portDirect = "5001" // only the MAC address is rewritten
	portTunnel = "5002" // IP in IP
)

func newSite() (*site, error) {
	s := &site{}
	var err error
	if s.Stage, err = stage.New("sluice-vm-bench"); err != nil {
		return nil, err
	}
	s.client, err = s.Host("client")
	if err == nil {
		s.backends, err = s.Host("backends")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// product is a host between client and backends.
type product struct {
	*lab.Host
	vip      string
	backends []string // addresses
	sink     *sink
}

// host connects a host, which routes.
func (s *site) host(name string) (*product, error) {
	h, err := s.Host(name)
	if err != nil {
		return nil, err
	}
	s.hosts++
	p := &product{Host: h, vip: fmt.Sprintf("192.0.2.%d", s.hosts)}
	clients, servers := fmt.Sprintf("10.1.%d.", s.hosts), fmt.Sprintf("10.2.%d.", s.hosts)
	prefixes := make([]string, backendCount)
	for n := range prefixes {
		p.backends = append(p.backends, fmt.Sprintf("%s%d", servers, 11+n))
		prefixes[n] = p.backends[n] + "/24"
	}
	err = errors.Join(
		s.Connect(s.client, name, h, "clients", lab.LinkOptions{}),
		s.Connect(h, "backends", s.backends, name, lab.LinkOptions{}),
		s.client.Addr(name, clients+"2/24"),
		h.Addr("clients", clients+"1/24"),
		h.Addr("backends", servers+"1/24"),
		s.backends.Addr(name, prefixes...),
		s.client.Route(p.vip+"/32", clients+"1"),
		h.Forward(),
	)
	if err != nil {
		return nil, err
	}
	p.sink, err = newSink(s.backends, name)
	return p, err
}

// contend adds a contender.
func (s *site) contend(name string, p *product, port string, protocol int) {
	s.contenders = append(s.contenders, contender{name, p.vip + ":" + port, protocol, p.sink})
}
