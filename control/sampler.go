package control

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/dataplane"
)

// sampler measures each service once a minute, at the minute's end, and has the history keep it.
//
// Two clocks are read: the wall clock says which minute it is, the steady one how long was measured. A minute of
// which more than half was measured, as when the daemon starts within it, is scaled up to a whole one; of others
// nothing is known. Where the wall clock jumps only the minutes are wrong in which it does.
type sampler struct {
	history  *history.History
	services func() []Service
	traffic  func(dataplane.ServiceKey) ([]dataplane.Traffic, bool)
	up       func(*Service) int   // backends
	told     func(history.Minute) // is told of each minute once it is in the history; may be nil
	clock    func() (wall time.Time, steady time.Duration)
	real     func(time.Duration) time.Duration // how long to wait until so much of the wall clock has passed
	log      *slog.Logger

	mu      sync.Mutex
	tallies map[dataplane.ServiceKey]*tally // of the minute that is going on

	// What follows belongs to one goroutine.
	before  map[dataplane.ServiceKey][]dataplane.Traffic
	last    time.Duration // when before was read, by the steady clock
	offset  time.Duration // of the wall clock to the steady one, then
	regular time.Duration // since then the wall clock has not jumped
	waiting []history.Minute
	failing bool
}

// newSampler returns one that measures nothing before run.
func (d *Daemon) newSampler() *sampler {
	return &sampler{
		history:  d.history,
		services: func() []Service { return d.store.Manifest().Services },
		traffic:  d.dataplane.Traffic,
		up:       d.reconciler.up,
		told:     func(m history.Minute) { d.forecasts.Minute(m.At, m.Rows); d.scaler.minute(m) },
		clock:    d.clock.steady,
		real:     d.clock.real,
		log:      d.log,
		tallies:  make(map[dataplane.ServiceKey]*tally),
	}
}

const (
	// maxWaiting is how many minutes wait for a store that cannot be written.
	maxWaiting = 60
	// expireAfter is for how many minutes the wall clock must not have jumped until it is trusted to say what is old.
	expireAfter = 60
	// sameLength is how far a minute may be from its length, as a share, without being scaled.
	sameLength = 0.05
)

// begin reads what was counted before.
func (s *sampler) begin() {
	wall, steady := s.clock()
	s.last, s.regular, s.offset = steady, steady, offset(wall, steady)
	s.measure(1)
}

func offset(wall time.Time, steady time.Duration) time.Duration {
	return time.Duration(wall.UnixNano()) - steady
}

// run samples at the end of each minute, and once more when ctx ends.
func (s *sampler) run(ctx context.Context) {
	s.begin()
	for ctx.Err() == nil {
		s.await(ctx)
		s.sample()
	}
}

// await waits for the end of the minute, or for a minute when the clock is set back meanwhile.
func (s *sampler) await(ctx context.Context) {
	step := s.history.Step()
	wall, _ := s.clock()
	end := wall.Truncate(step).Add(step)
	for wait := end.Sub(wall); wait > 0 && wait <= step; wait = end.Sub(wall) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.real(wait)):
		}
		wall, _ = s.clock()
	}
}

// sample records the minute that has ended.
func (s *sampler) sample() {
	wall, steady := s.clock()
	step := s.history.Step()
	took := steady - s.last
	s.last = steady
	now := offset(wall, steady)
	if (now - s.offset).Abs() > step {
		s.regular = steady
	}
	s.offset = now
	scale := float64(step) / float64(took)
	if math.Abs(scale-1) <= sameLength {
		scale = 1
	}
	rows := s.measure(scale)
	minute := history.Minute{At: wall.Add(-took / 2), Rows: rows}
	whole := took > step/2 && took < step+step/2
	if whole {
		s.waiting = append(s.waiting, minute)
		s.waiting = s.waiting[max(len(s.waiting)-maxWaiting, 0):]
	}
	var trusted time.Time
	if steady-s.regular >= expireAfter*step {
		trusted = wall
	}
	s.write(trusted)
	if whole && s.told != nil {
		s.told(minute)
	}
}

// write has what waits written; what cannot be waits for the next time.
func (s *sampler) write(now time.Time) {
	if len(s.waiting) == 0 {
		return
	}
	err := s.history.Record(s.waiting, now)
	if err != nil && !s.failing {
		s.log.Error("minutes of the history cannot be written; trying again each minute", "error", err)
	}
	if s.failing = err != nil; !s.failing {
		s.waiting = nil
	}
}

// measure returns what was seen of each service since the last time; counts are multiplied by scale.
func (s *sampler) measure(scale float64) map[string]history.Row {
	s.mu.Lock()
	tallies := s.tallies
	s.tallies = make(map[dataplane.ServiceKey]*tally)
	s.mu.Unlock()
	services := s.services()
	now := make(map[dataplane.ServiceKey][]dataplane.Traffic, len(services))
	rows := make(map[string]history.Row, len(services))
	for i := range services {
		service := &services[i]
		traffic, ok := s.traffic(service.Key())
		if !ok {
			continue
		}
		now[service.Key()] = traffic
		row := history.Absent()
		row[history.Backends] = float32(s.up(service))
		flows := countInto(&row, s.before[service.Key()], traffic, scale)
		if service.Policy == dataplane.PolicyP2C {
			row[history.Flows] = float32(active(traffic))
		}
		if t := tallies[service.Key()]; t != nil {
			t.fill(&row, flows)
		}
		rows[service.Name] = row
	}
	s.before = now
	return rows
}

// countInto fills in what was counted of the backends of a service in between, and returns the new flows before they are
// scaled.
func countInto(row *history.Row, before, now []dataplane.Traffic, scale float64) (flows float64) {
	sum := counted(before, now)
	row[history.NewFlows] = float32(scale * float64(sum.NewFlows))
	row[history.Packets] = float32(scale * float64(sum.Packets))
	row[history.Bytes] = float32(scale * float64(sum.Bytes))
	return float64(sum.NewFlows)
}

// counted returns what was counted of the backends of a service in between.
func counted(before, now []dataplane.Traffic) (sum dataplane.Counters) {
	for _, b := range now {
		var was dataplane.Counters
		if i, known := slices.BinarySearchFunc(before, b.Backend, backendOrder); known {
			was = before[i].Counters
		}
		sum.NewFlows += since(was.NewFlows, b.NewFlows)
		sum.Packets += since(was.Packets, b.Packets)
		sum.Bytes += since(was.Bytes, b.Bytes)
	}
	return sum
}

func backendOrder(t dataplane.Traffic, backend netip.AddrPort) int { return t.Backend.Compare(backend) }

// since is what was counted in between. A backend that was removed and added again counts from 0.
func since(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

func active(traffic []dataplane.Traffic) (flows int) {
	for _, b := range traffic {
		flows += b.Active
	}
	return flows
}

// tally counts what was seen of the handshakes of a service, as far as they are watched.
type tally struct {
	opened, repeated, answered, failed float64
	handshakes                         time.Duration // the sum
}

// signal counts what the kernel saw of a connection.
func (s *sampler) signal(signal dataplane.Signal) {
	if signal.Kind == dataplane.SignalMissed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tallies[signal.Service]
	if t == nil {
		t = new(tally)
		s.tallies[signal.Service] = t
	}
	switch signal.Kind {
	case dataplane.SignalOpened:
		t.opened++
	case dataplane.SignalRepeated:
		t.repeated++
	case dataplane.SignalAnswered:
		t.answered++
		t.handshakes += signal.Handshake
	case dataplane.SignalReset, dataplane.SignalUnreachable:
		t.failed++
	}
}

// fill fills in what the tally tells, of a service with so many new flows; without handshakes, as of UDP, those are what
// failures are a share of.
func (t *tally) fill(row *history.Row, flows float64) {
	if t.answered > 0 {
		row[history.Handshake] = float32(t.handshakes.Seconds() / t.answered)
	}
	if syns := t.opened + t.repeated; syns > 0 {
		row[history.Retransmissions] = float32(t.repeated / syns)
		flows = t.opened
	}
	if flows > 0 {
		row[history.Errors] = float32(min(t.failed/flows, 1))
	}
}
