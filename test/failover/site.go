package failover

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

const (
	backendCount = 4
	uplink       = stage.Uplink
	serviceName  = stage.ServiceName
	servicePort  = stage.ServicePort
	target       = stage.Target

	// readyWithin is how long everything may take to come up, and a backend to come back after a fault.
	readyWithin = time.Minute
)

// site is what one contender is measured in.
type site struct {
	*stage.Stage
	mode      dataplane.Mode
	network   *stage.Network
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
	if s.network, err = s.Network(count); err != nil {
		return nil, err
	}
	for _, at := range s.network.Backends {
		if err := s.addBackend(ctx, at, executable); err != nil {
			return nil, err
		}
	}
	s.contender = contend(s)
	return s, s.contender.start(ctx)
}

// addBackend has a host be a backend.
func (s *site) addBackend(ctx context.Context, at stage.Backend, executable string) error {
	b := &backend{
		name: at.Name(), address: at.Address, host: at.Host, executable: executable,
		socket: filepath.Join(s.Folder, at.Name()+".sock"),
	}
	var err error
	if b.impairer, err = attachImpairer(b.host, uplink); err != nil {
		return err
	}
	s.backends = append(s.backends, b)
	return errors.Join(s.Receive(b.host, s.mode), b.run(ctx))
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
