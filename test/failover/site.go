package failover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// The addresses are those for documentation (RFC 5737).
//
//	client               balancer                        switch    backends
//	eth0 ------- clients          backends ------------- |    | --- eth0
//	198.51.100.2         .1       203.0.113.1                       203.0.113.11 ... 14
//
// The service's own address is on no interface of the balancer, and in the modes other than nat on lo of the
// backends, whose answers the balancer only routes.
const (
	backendCount   = 4
	uplink         = "eth0" // of the client and the backends
	serviceName    = "web"
	serviceAddress = "192.0.2.10"
	servicePort    = "80"
	target         = serviceAddress + ":" + servicePort
	clientNet      = "198.51.100.0/24"
	gateway        = "203.0.113.1" // of the backends

	// Outer headers have room between the balancer and the backends, as operations.md asks for.
	backendMTU = 1600

	// readyWithin is how long everything may take to come up, and a backend to come back after a fault.
	readyWithin = time.Minute
)

// site is what one contender is measured in.
type site struct {
	*stage.Stage
	mode      dataplane.Mode
	client    *lab.Host
	host      *lab.Host // the balancer's
	backends  []*backend
	contender contender
}

// contender is a balancer to be measured. Sluice is one.
type contender interface {
	// start brings it up on the site's host.
	start(ctx context.Context) error
	// ready returns what is missing until every backend has its full part of the new connections, or nil.
	ready(ctx context.Context) error
	// ejected waits until a backend has at most half of that part, and returns since when.
	ejected(ctx context.Context, name string) (time.Time, error)
	// process is what all depends on.
	process() *lab.Process
}

// newSite builds everything up with so many backends, until every one serves.
func newSite(ctx context.Context, executable string, mode dataplane.Mode, count int, contend func(*site) contender) (_ *site, err error) {
	s := &site{mode: mode}
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.connect(count); err != nil {
		return nil, err
	}
	for _, b := range s.backends {
		if err := b.prepare(executable, mode); err != nil {
			return nil, err
		}
		if err := b.run(ctx); err != nil {
			return nil, err
		}
	}
	s.contender = contend(s)
	return s, s.contender.start(ctx)
}

// connect makes the hosts, so many backends among them.
func (s *site) connect(count int) error {
	var err error
	if s.client, err = s.Host("client"); err != nil {
		return err
	}
	if s.host, err = s.Host("balancer"); err != nil {
		return err
	}
	ethernet, err := s.Switch("switch")
	if err != nil {
		return err
	}
	err = errors.Join(
		s.Connect(s.client, uplink, s.host, "clients", lab.LinkOptions{}),
		ethernet.Join(s.host, "backends", lab.LinkOptions{MTU: backendMTU}),
		s.client.Addr(uplink, "198.51.100.2/24"),
		s.client.Route("192.0.2.0/24", "198.51.100.1"),
		s.host.Addr("clients", "198.51.100.1/24"),
		s.host.Addr("backends", gateway+"/24"),
		s.host.Forward(),
	)
	for n := range count {
		err = errors.Join(err, s.addBackend(ethernet, n))
	}
	return err
}

func (s *site) addBackend(ethernet *lab.Switch, n int) error {
	b := &backend{name: "b" + strconv.Itoa(n+1), address: "203.0.113." + strconv.Itoa(11+n)}
	b.socket = filepath.Join(s.Folder, b.name+".sock")
	b.pins = fmt.Sprintf("%s-%s", s.Pins, b.name)
	var err error
	if b.host, err = s.Host(b.name); err != nil {
		return err
	}
	s.backends = append(s.backends, b)
	return errors.Join(
		ethernet.Join(b.host, uplink, lab.LinkOptions{MTU: backendMTU}),
		b.host.Addr(uplink, b.address+"/24"),
		b.host.Route(clientNet, gateway),
	)
}

// close removes everything that was made.
func (s *site) close() error {
	var errs []error
	for _, b := range s.backends {
		errs = append(errs, b.Close())
	}
	return errors.Join(append(errs, s.Stage.Close())...)
}

// labPrefix begins the names of what the benchmark makes outside its namespaces.
const labPrefix = "sluice-failover"

// Traces returns patterns for the files that a run of the process with the number pid has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }
