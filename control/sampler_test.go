package control

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/dataplane"
)

// sampling is a sampler of one service on clocks that are set, over a history in a real store.
type sampling struct {
	*sampler
	t       *testing.T
	path    string
	db      *bolt.DB
	wall    time.Time
	steady  time.Duration
	service Service
	counted []dataplane.Traffic
}

// newSampling begins on the first second of a minute.
func newSampling(t *testing.T) *sampling {
	s := &sampling{t: t, path: filepath.Join(t.TempDir(), "store.db"), wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), steady: time.Hour}
	s.service = manifest(t, 1).Services[0]
	s.sampler = &sampler{
		services: func() []Service { return []Service{s.service} },
		traffic:  func(dataplane.ServiceKey) ([]dataplane.Traffic, bool) { return s.counted, s.counted != nil },
		up:       func(*Service) int { return 2 },
		clock:    func() (time.Time, time.Duration) { return s.wall, s.steady },
		real:     func(d time.Duration) time.Duration { return d },
		log:      slog.New(slog.DiscardHandler),
	}
	s.open()
	t.Cleanup(func() { s.db.Close() })
	return s
}

func (s *sampling) open() {
	var err error
	if s.db, err = bolt.Open(s.path, 0o600, nil); err == nil {
		s.history, err = history.Open(s.db, history.Options{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// count sets the new flows that were counted of backends, in their order.
func (s *sampling) count(flows ...uint64) {
	s.counted = []dataplane.Traffic{}
	for i, n := range flows {
		backend := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
		s.counted = append(s.counted, dataplane.Traffic{Backend: backend, Counters: dataplane.Counters{NewFlows: n, Packets: 10 * n, Bytes: 1000 * n}})
	}
}

// pass lets both clocks run.
func (s *sampling) pass(d time.Duration) { s.wall, s.steady = s.wall.Add(d), s.steady+d }

// minute lets a whole minute pass, and samples.
func (s *sampling) minute(flows ...uint64) {
	s.count(flows...)
	s.pass(time.Minute)
	s.sample()
}

// expect compares the new flows of the minutes from 12:00 on.
func (s *sampling) expect(want string) {
	s.t.Helper()
	from := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var got []string
	for range strings.Fields(want) {
		text := "-"
		rows, err := s.history.Read(s.service.Name, from, from.Add(time.Minute))
		if err != nil {
			s.t.Fatal(err)
		}
		if rows[0].Known() {
			text = fmt.Sprint(rows[0][history.NewFlows])
		}
		got, from = append(got, text), from.Add(time.Minute)
	}
	if text := strings.Join(got, " "); text != want {
		s.t.Errorf("the minutes have %s, want %s", text, want)
	}
}

// What is counted is what came since the last time: of adopted counters, of backends that come, go and come back.
func TestSamplerCounts(t *testing.T) {
	s := newSampling(t)
	s.count(5000, 70)
	s.begin()
	s.minute(5003, 74)
	s.minute(5003, 74, 5) // a new backend
	s.minute(5003, 80)    // it is gone
	s.minute(5004, 2, 1)  // the second one was removed and added again, as the third was
	s.service.Name = "renamed"
	s.minute(5010, 2, 1)
	s.expect("- - - - 6")
	s.service.Name = defaultName(s.service.Key())
	s.expect("7 5 6 4 -")
	s.counted = nil // the kernel does not have the service
	s.pass(time.Minute)
	s.sample()
	s.minute(1, 1)
	s.expect("7 5 6 4 - - 2")
	row, err := s.history.Read(s.service.Name, s.wall.Add(-time.Minute), s.wall)
	if err != nil || row[0][history.Packets] != 20 || row[0][history.Bytes] != 2000 || row[0][history.Backends] != 2 || row[0][history.Flows] == row[0][history.Flows] {
		t.Errorf("%v, %v", row, err)
	}
}

// A minute that was not measured wholly is scaled if more than half of it was, and otherwise absent.
func TestSamplerPartialMinutes(t *testing.T) {
	s := newSampling(t)
	s.count(100)
	s.pass(20 * time.Second)
	s.begin()
	s.count(120) // in 40 s
	s.pass(40 * time.Second)
	s.sample()
	s.expect("30")
	s.count(170) // the host did not come to it for 80 s
	s.pass(100 * time.Second)
	s.sample()
	s.count(175)
	s.pass(20 * time.Second)
	s.sample()
	s.minute(185)
	s.expect("30 - - 10")

	s = newSampling(t)
	s.count(100)
	s.pass(40 * time.Second)
	s.begin()
	s.count(120)
	s.pass(20 * time.Second)
	s.sample()
	s.minute(125)
	s.expect("- 5")
}

// A clock that is set back does not change the past, one that is set forward loses the minute in which that happens.
func TestSamplerClockJumps(t *testing.T) {
	s := newSampling(t)
	s.count(0)
	s.begin()
	s.minute(1)
	s.minute(3)
	s.wall = s.wall.Add(-time.Minute)
	s.minute(6) // 12:01 again
	s.minute(10)
	s.expect("1 2 4")
	s.wall = s.wall.Add(2 * time.Minute)
	s.minute(15)
	s.expect("1 2 4 - - 5")
	s.wall = s.wall.Add(-24 * time.Hour)
	for range 3 {
		s.minute(15)
	}
	s.wall = s.wall.Add(24*time.Hour - 3*time.Minute)
	s.minute(21)
	s.expect("1 2 4 - - 5 6")
}

// A clock that is far wrong for some time does not have the history deleted; one that is right has what is old deleted.
func TestSamplerTrustsSteadyClock(t *testing.T) {
	s := newSampling(t)
	s.count(0)
	s.begin()
	s.minute(1)
	years := 10 * 365 * 24 * time.Hour
	s.wall = s.wall.Add(years)
	for i := range expireAfter - 1 {
		s.minute(uint64(2 + i))
	}
	s.expect("1")
	s.wall = s.wall.Add(-years)
	for i := range 2 * expireAfter {
		s.minute(uint64(100 + i))
	}
	s.expect("1")
	s.wall = s.wall.Add(years)
	for i := range expireAfter + 1 {
		s.minute(uint64(300 + i))
	}
	s.expect("-")
}

// What cannot be written is written as soon as it can.
func TestSamplerStoreFails(t *testing.T) {
	s := newSampling(t)
	s.count(0)
	s.begin()
	s.minute(1)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	s.minute(3)
	s.minute(6)
	s.open()
	s.expect("1 - -")
	s.minute(10)
	s.expect("1 2 3 4")
}

// Shares are of the handshakes that are watched, and without any of the new flows.
func TestSamplerSignals(t *testing.T) {
	s := newSampling(t)
	s.count(0)
	s.begin()
	tell := func(kind dataplane.SignalKind, times int) {
		for range times {
			s.signal(dataplane.Signal{Kind: kind, Service: s.service.Key(), Handshake: 20 * time.Millisecond})
		}
	}
	tell(dataplane.SignalOpened, 40)
	tell(dataplane.SignalRepeated, 10)
	tell(dataplane.SignalAnswered, 38)
	tell(dataplane.SignalReset, 2)
	tell(dataplane.SignalResetOpen, 30)
	tell(dataplane.SignalMissed, 1)
	s.minute(80)
	tell(dataplane.SignalUnreachable, 3)
	s.minute(90)
	s.minute(90)
	for i, want := range []string{"0.02 0.2 0.05", "NaN NaN 0.3", "NaN NaN NaN"} {
		at := s.wall.Add(time.Duration(i-3) * time.Minute)
		rows, err := s.history.Read(s.service.Name, at, at.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rows[0][history.Handshake], rows[0][history.Retransmissions], rows[0][history.Errors]); got != want {
			t.Errorf("minute %d has %s, want %s", i, got, want)
		}
	}
}
