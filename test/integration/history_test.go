package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

var historyKills = flag.Int("kills", 4, "how often TestHistoryKilled kills the daemon")

// hastyConfig is the environment variable that has this program be a daemon whose minutes are short. Its value is the
// configuration's path.
const hastyConfig = "SLUICE_TEST_HASTY_CONFIG"

// hastyMinute is a minute of that daemon.
const hastyMinute = 200 * time.Millisecond

// hasty is that daemon.
func hasty(path string) error {
	config, err := control.LoadConfig(path)
	if err != nil {
		return err
	}
	return control.Run(context.Background(), config, control.Options{Minute: hastyMinute})
}

// recorded is what the daemon tells of a service's history, by the beginning of the minute.
func (s *site) recorded(ctx context.Context, service string) (map[time.Time]string, error) {
	minutes := make(map[time.Time]string)
	err := s.api.History(ctx, control.HistoryRequest{Service: service}, func(p history.Point) {
		minutes[p.Time] = fmt.Sprint(p.Row)
	})
	return minutes, err
}

// The daemon is killed at random moments under traffic, every other time about the moment at which it writes. It always
// starts again, has every minute that it told of before, unchanged, and none that is more than what was sent.
func TestHistoryKilled(t *testing.T) {
	s := newNetwork(t, lab.LinkOptions{}, backends)
	s.serve(t, ways[0])
	s.configure(t)
	environment := []string{hastyConfig + "=" + s.config}
	s.launch(t, environment, os.Args[0])
	_, err := s.api.Apply(t.Context(), control.ApplyRequest{Services: manyServices(50)})
	must(t, err)
	connections := s.connectAlways(t)
	random := rand.New(rand.NewPCG(1, 1))
	longest := time.Duration(0)
	for kill := range *historyKills {
		known := s.watchHistory(t, kill%2 == 0, random)
		s.daemon.Kill()
		killed := time.Now()
		<-s.daemon.Done()
		if output := s.daemon.Output(); strings.Contains(output, "history") {
			t.Fatalf("the daemon said: %s", output)
		}
		s.launch(t, environment, os.Args[0])
		newest := time.Time{}
		for service, before := range known {
			after, err := s.recorded(t.Context(), service)
			must(t, err)
			for at, row := range before {
				if after[at] != row {
					t.Fatalf("after kill %d the minute %s of %s has %q, it had %q", kill, at, service, after[at], row)
				}
			}
			for at := range after {
				if at.Before(killed) && at.After(newest) {
					newest = at
				}
			}
		}
		longest = max(longest, killed.Sub(newest.Add(hastyMinute)))
	}
	t.Logf("killed %d times, at most %.1f minutes (of %s) were lost", *historyKills, float64(longest)/float64(hastyMinute), hastyMinute)
	s.wantPlausible(t, connections)
}

// watchHistory lets a daemon that has just started run for a while, and returns what it told of two services. It returns about
// the time of a minute's end, or at any.
func (s *site) watchHistory(t *testing.T, atEnd bool, random *rand.Rand) map[string]map[time.Time]string {
	t.Helper()
	time.Sleep(time.Duration(random.Int64N(int64(4 * hastyMinute))))
	known := make(map[string]map[time.Time]string)
	for _, service := range []string{"web", "idle-7"} {
		var err error
		known[service], err = s.recorded(t.Context(), service)
		must(t, err)
	}
	if atEnd {
		now := time.Now()
		time.Sleep(now.Truncate(hastyMinute).Add(hastyMinute).Sub(now) + time.Duration(random.Int64N(int64(8*time.Millisecond))))
	}
	return known
}

// wantPlausible compares the new flows of all minutes with the connections that were opened: they are some, and not more
// than twice as many, since minutes of which half was measured are scaled.
func (s *site) wantPlausible(t *testing.T, connections *atomic.Int64) {
	t.Helper()
	eventually(t, "new flows in the history", func() bool {
		flows := float32(0)
		must(t, s.api.History(t.Context(), control.HistoryRequest{Service: "web"}, func(p history.Point) {
			for c, v := range p.Row {
				if v < 0 {
					t.Fatalf("%s: %s %g", p.Time, history.Column(c), v)
				}
			}
			flows += p.Row[history.NewFlows]
		}))
		if opened := connections.Load(); float64(flows) > 2*float64(opened) {
			t.Fatalf("%g flows were recorded of %d connections", flows, opened)
		}
		return flows > 0
	})
}

// manyServices are web, and so many that nobody uses, so that much is written each minute.
func manyServices(idle int) []control.Service {
	w := ways[0]
	web := control.Service{Name: "web", Address: w.serviceAddress(), Port: portTCP}
	for n := range backends {
		web.Backends = append(web.Backends, control.Backend{Address: w.backendAddress(n)})
	}
	services := []control.Service{web}
	for n := range idle {
		address := netip.AddrFrom4([4]byte{198, 18, 0, byte(n)})
		services = append(services, control.Service{Name: fmt.Sprintf("idle-%d", n), Address: address, Port: 80, Protocol: dataplane.ProtocolTCP})
	}
	return services
}

// connectPause between connections keeps the client's ports from running out.
const connectPause = 5 * time.Millisecond

// connectAlways opens one connection after the other until the test ends, and counts those that it begins.
func (s *site) connectAlways(t *testing.T) *atomic.Int64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	connections, ended := new(atomic.Int64), make(chan error, 1)
	connect := traffic.Transfer(s.client, ways[0].target(portTCP), 100)
	go func() {
		for stage.Sleep(ctx, connectPause) == nil {
			connections.Add(1)
			limited, cancel := context.WithTimeout(ctx, 30*time.Second)
			_, err := connect(limited)
			cancel()
			if err != nil && ctx.Err() == nil {
				ended <- fmt.Errorf("a connection failed: %w", err)
				return
			}
		}
		ended <- nil
	}()
	t.Cleanup(func() {
		stop()
		must(t, <-ended)
	})
	return connections
}
