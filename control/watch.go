package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
)

// watch has the backends of services that changed watched as they are to be, and all of them where the budget is spent
// otherwise from now on. r.mu must be held.
func (r *reconciler) watch(changed []revision) {
	for _, c := range changed {
		before, after := r.targets(c.before), r.targets(c.after)
		for t, each := range before {
			r.budget.count(each, -1)
			if _, stays := after[t]; !stays {
				r.monitor.Unwatch(t)
			}
		}
		for _, each := range after {
			r.budget.count(each, 1)
		}
	}
	if r.budget.fit() {
		r.watchAll()
		return
	}
	for _, c := range changed {
		r.watchService(cmp.Or(c.after, c.before))
	}
}

// watchAll has the backends of all services watched. r.mu must be held.
func (r *reconciler) watchAll() {
	clear(r.unwatched)
	for _, s := range r.wanted {
		r.watchService(s)
	}
}

// watchService has those of one service watched, if it is wanted. r.mu must be held.
func (r *reconciler) watchService(s *Service) {
	key := s.Key()
	delete(r.unwatched, key)
	for t, each := range r.targets(r.wanted[key]) {
		each.Interval = r.budget.stretched(each.Interval)
		if err := r.monitor.Watch(t, each); err != nil {
			r.unwatched[key] = err
		}
	}
}

// targets are the backends of a service that are watched, with the interval that is wished; none of nil. r.mu must be
// held.
func (r *reconciler) targets(s *Service) map[target]health.Target {
	if s == nil {
		return nil
	}
	targets := make(map[target]health.Target, len(s.Backends))
	probes := s.probes(r.defaults)
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.State != StateDown {
			t := target{s.Key(), b.place()}
			targets[t] = s.targetOf(b, probes(b), r.down[t])
		}
	}
	return targets
}

// targetOf is how a backend is watched with a probe.
func (s *Service) targetOf(b *Backend, p *Probe, down bool) health.Target {
	t := health.Target{Address: p.place(s, b), Source: p.Source, Via: p.Via == ViaService, Timing: p.timing(), Load: s.Load.source(b), Down: down}
	if p.Kind != ProbeNone {
		t.Probe = p.Spec
	}
	return t
}

// viaService probes a backend at its service's address, the way that traffic takes.
type viaService struct {
	kernel kernel
	of     target
	source netip.Addr
	prober *probe.Prober
}

// resolvePause is how often it is looked whether the next hop of a backend is known.
const resolvePause = 2 * time.Millisecond

// Probe marks the sockets of one probe. As long as packets for the backend cannot leave this host it does not answer; what
// else keeps it from being probed tells nothing about it.
func (v viaService) Probe(ctx context.Context, connect *probe.Connect) error {
	mark, err := v.mark(ctx, connect)
	if errors.Is(err, dataplane.ErrUnresolved) {
		return err
	}
	source := v.source
	if err == nil && !source.IsValid() {
		source, err = v.kernel.ProbeSource(v.of.service, v.of.backend)
	}
	var prober *probe.Prober
	if err == nil {
		prober, err = v.prober.Via(probe.Dialer{Source: source, Control: marked(mark)})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", health.ErrNotSent, err)
	}
	return prober.Probe(ctx, connect)
}

// mark waits for a next hop, no longer than the backend may take to accept a connection.
func (v viaService) mark(ctx context.Context, connect *probe.Connect) (uint32, error) {
	if connect != nil && connect.Limit > 0 {
		limited, cancel := context.WithTimeout(ctx, connect.Limit)
		defer cancel()
		ctx = limited
	}
	for {
		mark, err := v.kernel.ProbeMark(v.of.service, v.of.backend)
		if !errors.Is(err, dataplane.ErrUnresolved) {
			return mark, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w, and no answer%w", err, silent{ctx.Err()})
		case <-time.After(resolvePause):
		}
	}
}

// silent is an error without a text.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// marked sets the mark of a socket.
func marked(mark uint32) func(string, string, syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
		if err = cmp.Or(err, failed); err != nil {
			return fmt.Errorf("%w: marking a socket: %w", health.ErrNotSent, err)
		}
		return nil
	}
}

// prober returns what probes a target.
func (r *reconciler) prober(of target, t health.Target) (health.Prober, error) {
	if t.Probe.Kind == probe.Exec && !r.budget.config.Exec {
		return nil, errNoExec
	}
	prober, err := probe.New(t.Probe, t.Address, probe.Dialer{Source: t.Source}) // tells what is wrong with the probe
	if err != nil || !t.Via {
		return prober, err
	}
	return viaService{r.kernel, of, t.Source, prober}, nil
}

// spend fits the probes to the budget again, which grows with the traffic, and tries again to watch what could not be
// watched.
func (r *reconciler) spend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.budget.exceeded() {
		r.budget.observe(r.kernel.Packets(), time.Now())
	}
	if r.budget.fit() {
		r.watchAll()
		return
	}
	for key := range maps.Clone(r.unwatched) {
		r.watchService(r.wanted[key])
	}
}

var signalKinds = map[dataplane.SignalKind]health.SignalKind{
	dataplane.SignalOpened:      health.Opened,
	dataplane.SignalRepeated:    health.Repeated,
	dataplane.SignalAnswered:    health.Answered,
	dataplane.SignalReset:       health.Refused,
	dataplane.SignalResetOpen:   health.Reset,
	dataplane.SignalUnreachable: health.Unreachable,
}

// passive takes what the kernel saw of a connection.
func (r *reconciler) passive(s dataplane.Signal) {
	if s.Kind == dataplane.SignalMissed {
		r.monitor.Missed()
		return
	}
	r.monitor.Signal(target{s.Service, s.Backend}, health.Signal{
		Kind: signalKinds[s.Kind], Flow: s.Flow, At: s.At, Handshake: s.Handshake,
	})
}

// problems says what is wrong with watching backends.
func (r *reconciler) problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems []string
	if len(r.unwatched) > 0 {
		first := slices.MinFunc(slices.Collect(maps.Keys(r.unwatched)), dataplane.ServiceKey.Compare)
		problems = append(problems, fmt.Sprintf("a backend is not watched as wished: %v", r.unwatched[first]))
	}
	if text := r.budget.text(); text != "" {
		problems = append(problems, text)
	}
	return problems
}
