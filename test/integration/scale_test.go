package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluicelb/sluice/brain/health/probe"
	pb "github.com/sluicelb/sluice/brain/scale/keda/externalscaler"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

const (
	calendarSpeed = 60 // minutes pass in seconds
	kedaPort      = 9434
	scaledRate    = 20 // new flows per second that a backend serves, by the policy
)

// scaling is a site whose service scales: a program starts and ends backends.
type scaling struct {
	*site
	folder string // of what the program wrote
	began  time.Time
	failed atomic.Int64 // exchanges
	err    atomic.Value // of the last of them
}

// program is the executor. It notes each order, and says where the new backends are; it starts none while there is a file "broken".
const program = `cd %s
cat > order.json
echo "$SLUICE_WAS $SLUICE_INSTANCES $SLUICE_KEY $SLUICE_REMOVE" >> orders
if [ -e broken ] && [ $SLUICE_INSTANCES -gt $SLUICE_WAS ]; then echo "no quota is left" >&2; exit 1; fi
separator='{"backends": ['
n=$SLUICE_WAS
while [ $n -lt $SLUICE_INSTANCES ]; do
	printf '%%s{"name": "backend%%d", "address": "198.51.100.%%d", "zone": "a"}' "$separator" $n $((10 + n))
	separator=', '
	n=$((n + 1))
done
if [ "$separator" = ', ' ]; then echo ']}'; fi
`

func newScaling(t *testing.T) *scaling {
	t.Helper()
	s := &scaling{site: newNetwork(t, lab.LinkOptions{}, backends), folder: t.TempDir(), began: time.Now()}
	must(t, os.WriteFile(filepath.Join(s.folder, "scale.sh"), fmt.Appendf(nil, program, s.folder), 0o600))
	s.configure(t)
	config, err := os.ReadFile(s.config)
	must(t, err)
	must(t, os.WriteFile(s.config, append(config, fmt.Sprintf("scale: {exec: true, keda: 127.0.0.1:%d}\n", kedaPort)...), 0o600))
	s.start(t)
	return s
}

// start starts the daemon, whose calendar goes on where it was.
func (s *scaling) start(t *testing.T) {
	t.Helper()
	at := s.began.Add(calendarSpeed * time.Since(s.began))
	s.launch(t, nil, binary, "run", "--config", s.config, "--calendar-speed", fmt.Sprint(calendarSpeed), "--calendar-at", at.Format(time.RFC3339))
}

// scaledService has one backend that is configured.
func (s *scaling) service() control.Service {
	return control.Service{
		Name: "web", Address: ways[0].serviceAddress(), Port: portHTTP, Probe: &control.Probe{Spec: probe.Spec{Kind: probe.TCP}},
		Health:   control.Health{SlowStart: control.Pause(time.Second)},
		Backends: []control.Backend{{Name: "backend0", Address: ways[0].backendAddress(0)}},
		Scaling: control.Scaling{
			Executor: "exec", Command: "/bin/sh " + filepath.Join(s.folder, "scale.sh"), ServiceRate: scaledRate, Objective: control.Duration(200 * time.Millisecond),
			Boot: control.Duration(time.Second), Max: 3, CooldownDown: control.Pause(2 * time.Second), Drain: control.Pause(3 * time.Second),
		},
	}
}

// load opens so many connections a second, and counts those that fail, until it is stopped.
func (s *scaling) load(t *testing.T, rate float64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		traffic.Load{Exchange: traffic.HTTP(s.client, ways[0].target(portHTTP), 100), Workers: 8, Rate: rate, Observe: func(r traffic.Result) {
			if r.Err != nil && ctx.Err() == nil {
				s.failed.Add(1)
				s.err.Store(r.Err.Error())
			}
		}}.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// orders returns what the program was told: how many there were and shall be, the key, and whom to end.
func (s *scaling) orders(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder, "orders"))
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// states returns the states of the service's backends, by name.
func (s *scaling) states(t *testing.T) map[string]control.State {
	t.Helper()
	states := make(map[string]control.State)
	status, err := s.api.Status(t.Context())
	must(t, err)
	for _, b := range status.Services[0].Backends {
		states[b.Name] = b.State
	}
	return states
}

func (s *scaling) wantStates(t *testing.T, want map[string]control.State) {
	t.Helper()
	eventually(t, fmt.Sprint(want), func() bool { return fmt.Sprint(s.states(t)) == fmt.Sprint(want) })
}

func (s *scaling) wantAllServed(t *testing.T) {
	t.Helper()
	if n := s.failed.Load(); n > 0 {
		t.Errorf("%d exchanges failed, the last one: %v", n, s.err.Load())
	}
}

// Traffic that grows has backends started, which get flows once they answer and no earlier; when it has gone those are drained, keeping what
// they have, and ended, the configured one stays. A daemon that is killed while it drains goes on.
func TestScaling(t *testing.T) {
	s := newScaling(t)
	s.startServer(t, ways[0], 0)
	s.apply(t, []control.Service{s.service()})
	stop := s.load(t, 2.2*scaledRate)
	up, down := control.StateUp, control.StateDown
	s.wantStates(t, map[string]control.State{"backend0": up, "backend1": down, "backend2": down})
	time.Sleep(time.Second)
	s.wantStates(t, map[string]control.State{"backend0": up, "backend1": down, "backend2": down})
	s.startServer(t, ways[0], 1)
	s.startServer(t, ways[0], 2)
	s.wantStates(t, map[string]control.State{"backend0": up, "backend1": up, "backend2": up})
	flow := s.openFlowTo(t, ways[0], "backend2")
	stop()
	s.wantAllServed(t)

	eventually(t, "a backend that drains", func() bool { return s.states(t)["backend2"] == control.StateDraining })
	s.wantEvents(t, "web scale 1 -> 3", "web plan running -> done: plan 1", "web scale 3 -> ")
	s.daemon.Kill()
	<-s.daemon.Done()
	s.start(t)
	if err := flow.Err(); err != nil {
		t.Errorf("a connection of a backend that drains: %v", err)
	}
	s.wantStates(t, map[string]control.State{"backend0": up})
	orders := s.orders(t)
	if last := orders[len(orders)-1]; !strings.HasSuffix(last, " backend1") && !strings.HasSuffix(last, " backend1 backend2") {
		t.Errorf("the program was told last: %s", last)
	}
	plans, err := s.api.Plans(t.Context())
	must(t, err)
	for _, p := range plans {
		if !p.Ended() || p.State != "done" {
			t.Errorf("plan %d is %s: %s", p.Number, p.State, p.Cause())
		}
	}
}

// A program that fails is an event with what it said, and is not run again at once; a pause outlives the daemon.
func TestScalingFails(t *testing.T) {
	s := newScaling(t)
	broken := filepath.Join(s.folder, "broken")
	must(t, os.WriteFile(broken, nil, 0o600))
	s.startServer(t, ways[0], 0)
	s.apply(t, []control.Service{s.service()})
	defer s.load(t, 2.2*scaledRate)()
	eventually(t, "a plan that failed", func() bool {
		plans, err := s.api.Plans(t.Context())
		must(t, err)
		return len(plans) == 1 && plans[0].Ended()
	})
	s.wantEvents(t, "web plan running -> rolled-back: plan 1:", "no quota is left")
	tried := len(s.orders(t))
	time.Sleep(3 * time.Second) // a dozen decisions
	if again := len(s.orders(t)); again != tried {
		t.Errorf("the program was run %d times, and then %d times more", tried, again-tried)
	}
	scale, err := s.api.Scale(t.Context())
	must(t, err)
	if text := strings.Join(scale[0].Reasons, "\n"); scale[0].Wanted != 3 || !strings.Contains(text, "the last plan failed; the next one is made in ") {
		t.Errorf("%d are wanted: %s", scale[0].Wanted, text)
	}
	_, err = s.api.PauseScaling(t.Context(), "web", control.PauseRequest{Reason: "no quota"})
	must(t, err)
	s.daemon.Kill()
	<-s.daemon.Done()
	must(t, os.Remove(broken))
	s.start(t)
	eventually(t, "a pause that outlives the daemon", func() bool {
		scale, err := s.api.Scale(t.Context())
		must(t, err)
		return len(scale) == 1 && scale[0].Load != nil && *scale[0].Load > scaledRate && strings.Contains(strings.Join(scale[0].Reasons, "\n"), "no quota")
	})
	if again := len(s.orders(t)); again != tried {
		t.Errorf("the program was run while scaling was paused")
	}
	must(t, s.api.ResumeScaling(t.Context(), "web"))
	s.wantStates(t, map[string]control.State{"backend0": control.StateUp, "backend1": control.StateDown, "backend2": control.StateDown})
}

// KEDA is told how many there shall be, by its own protocol, as they are needed.
func TestScalingByKEDA(t *testing.T) {
	s := newScaling(t)
	s.startServer(t, ways[0], 0)
	service := s.service()
	service.Scaling.Executor, service.Scaling.Command = "keda", ""
	s.apply(t, []control.Service{service})
	connection, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", kedaPort),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return s.balancer.DialContext(ctx, "tcp", address)
		}))
	must(t, err)
	defer connection.Close()
	client := pb.NewExternalScalerClient(connection)
	object := &pb.ScaledObjectRef{Name: "web", Namespace: "default", ScalerMetadata: map[string]string{"service": "web"}}
	wanted := func() int64 {
		answer, err := client.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: object, MetricName: "sluice-instances"})
		if err != nil {
			return 0 // not decided yet
		}
		return answer.MetricValues[0].MetricValue
	}
	eventually(t, "one that is wanted", func() bool { return wanted() == 1 })
	defer s.load(t, 2.2*scaledRate)()
	eventually(t, "three that are wanted", func() bool { return wanted() == 3 })
}
