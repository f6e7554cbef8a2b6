package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// busyStatus is that of a daemon with a good day behind it, and some trouble.
func busyStatus() control.Status {
	resolved := dataplane.NextHop{Resolved: true, Interface: "eth1"}
	return control.Status{
		Version: "1.2.3",
		Uptime:  control.Duration(76*time.Hour + 5*time.Minute),
		Interfaces: []dataplane.Interface{
			{Name: "eth0", Mode: dataplane.XDPNative, Up: true, Programs: []dataplane.XDPProgram{
				{Name: "xdpfilt_alw_udp", Priority: 10}, {Name: "balancer", Priority: 50},
			}},
			{Name: "wlan0", Mode: dataplane.XDPGeneric, Reason: "the driver refuses native XDP: operation not supported"},
		},
		Services: []control.ServiceStatus{
			{
				Name: "web", Address: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: dataplane.ProtocolTCP,
				State: control.ServiceDegraded, Slots: 65537,
				Probe: control.Probe{
					Spec: probe.Spec{Kind: probe.TCP}, Profile: health.ProfileDefault, Via: control.ViaBackend, Interval: control.Duration(200 * time.Millisecond),
					Timeout: control.Duration(100 * time.Millisecond), Rise: 2, Fall: 3,
				},
				Backends: []control.BackendStatus{
					{
						Name: "one", Address: netip.MustParseAddr("192.168.1.11"), Port: 80, Weight: 100, State: control.StateUp,
						Since: noon.Add(-76 * time.Hour), NextHop: resolved, Share: 0.6667,
						Counters: dataplane.Counters{Packets: 12_345_678, Bytes: 9_876_543_210, NewFlows: 54_321},
					},
					{
						Name: "two", Address: netip.MustParseAddr("192.168.1.12"), Port: 8080, Weight: 50, State: control.StateDown,
						Cause: "3 of 3 probes failed: connection refused", Since: noon.Add(-90 * time.Second),
						NextHop:  dataplane.NextHop{Reason: "no neighbour answers for 192.168.1.12"},
						Counters: dataplane.Counters{Packets: 17, Bytes: 2048, NewFlows: 3},
					},
					{
						Name: "far", Address: netip.MustParseAddr("192.168.9.1"), Port: 80, Weight: 50, State: control.StateDraining,
						Cause: "as wished", Share: 0.3333,
						NextHop: dataplane.NextHop{
							Resolved: true, Interface: "eth1", Gateway: netip.MustParseAddr("192.168.1.254"), VLANs: []uint16{12},
						},
					},
				},
			},
			{
				Name: "mail", Address: netip.MustParseAddr("2001:db8::25"), Protocol: dataplane.ProtocolTCP,
				Mode: dataplane.ModeIPIP, State: control.ServiceFailed, Error: "limit reached: 65535 backends",
				Probe: control.Probe{Spec: probe.Spec{Kind: control.ProbeNone}}, Backends: []control.BackendStatus{},
			},
		},
		Reasons: map[string]uint64{
			"pass_no_service": 1_000_000, "pass_not_ip": 12, "drop_next_hop_unresolved": 34, "drop_no_backend": 1, "drop_ttl": 0,
		},
		Tables:   dataplane.Stats{SlotsUsed: 65537, SlotsTotal: 16 << 20},
		Problems: []string{"interface wlan0 is down: no packets come in there", "service mail: limit reached: 65535 backends"},
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestStatusView(t *testing.T) {
	status := busyStatus()
	many := busyStatus()
	for i := range 1000 {
		many.Problems = append(many.Problems, fmt.Sprintf("problem %d", i))
	}
	for name, view := range map[string]statusView{
		"plain":         {status: &status},
		"reasons":       {status: &status, reasons: true},
		"many-problems": {status: &many},
		"first-rates":   {status: &status, rates: map[string]rate{}},
		"rates":         {status: &status, rates: map[string]rate{"web": {newFlows: 321.5, packets: 1_234_567}, "mail": {}}},
		"empty":         {status: &control.Status{Version: "1.2.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			var p page
			view.print(&p)
			golden(t, p.String())
		})
	}
}

// A thousand backends stay one line.
func TestStatusOfManyBackends(t *testing.T) {
	status := busyStatus()
	for range 10 {
		status.Services[0].Backends = append(status.Services[0].Backends, status.Services[0].Backends...)
	}
	var p page
	statusView{status: &status}.print(&p)
	if lines := strings.Count(p.String(), "\n"); lines > 20 {
		t.Errorf("%d lines:\n%s", lines, &p)
	}
}

func TestStatusRates(t *testing.T) {
	before, after := busyStatus(), busyStatus()
	web := after.Services[0].Backends
	web[0].Packets += 3000
	web[0].NewFlows += 30
	web[1].Packets, web[1].NewFlows = 5, 1 // removed and added again
	web[2].Address = netip.MustParseAddr("192.168.9.2")
	web[2].Packets = 1_000_000 // has been there for an unknown time
	rates := (&sample{&after, noon.Add(2 * time.Second)}).rates(&sample{&before, noon})
	if diff := cmp.Diff(map[string]rate{"web": {newFlows: 15, packets: 1500}, "mail": {}}, rates, cmp.AllowUnexported(rate{})); diff != "" {
		t.Error(diff)
	}
	if rates := (&sample{&after, noon}).rates(nil); rates == nil || len(rates) > 0 {
		t.Errorf("before there are two samples, rates are %v", rates)
	}
}

func TestStatusCheck(t *testing.T) {
	s := newSession(t)
	s.run("service add healthy 10.0.0.1:80")
	out := s.run("status --check -o json")
	var status control.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Services) != 1 {
		t.Errorf("%v in %s", err, out)
	}
	s.transcript.Reset()
	s.run("backend add healthy 192.168.1.11") // there is no way to it
	if out := s.run("status --check"); !strings.Contains(out, "! service healthy: backend 192.168.1.11: ") {
		t.Errorf("the problem does not stand out:\n%s", out)
	}
	if text := s.transcript.String(); !strings.HasSuffix(text, "2> sluice: 1 of 1 service not ok: healthy is degraded\nexit code 1\n\n") {
		t.Error(text)
	}
}

func TestStatusWrong(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("status --watch=0")
	s.run("status --watch=0s")
	s.run("status --watch=-1s")
	s.run("status --follow=soon")
	s.run("status --watch --check")
	s.run("status -w 2s")
	s.golden()
}

// frames passes on what is written, a write at a time.
type frames chan string

func (f frames) Write(p []byte) (int, error) {
	f <- string(p)
	return len(p), nil
}

// serveStatus answers every call on a Unix socket with a status, until it is closed.
func serveStatus(t *testing.T, socket string) *http.Server {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	check(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(busyStatus())
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return server
}

// Watching goes on while the daemon is restarted, and ends well on Ctrl-C.
func TestStatusWatch(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sluice.sock")
	server := serveStatus(t, socket)
	out, errs := make(frames), make(frames)
	c := &cli{stdin: strings.NewReader(""), stdout: out, stderr: errs, terminal: true}
	t.Setenv("NO_COLOR", "1")
	root := newRootCommand(c)
	check(t, root.PersistentFlags().Set("socket", socket))
	cmd, _, err := root.Find([]string{"status"})
	check(t, err)
	ctx, interrupt := context.WithCancel(t.Context())
	cmd.SetContext(ctx)
	ticks, ended := make(chan time.Time), make(chan error)
	go func() { ended <- c.statusWatch(cmd, statusFlags{}, ticks) }()

	nextFrame := func() string {
		t.Helper()
		if text := <-out; text != clearScreen {
			t.Errorf("%q does not clear the screen", text)
		}
		return <-out
	}
	if frame := nextFrame(); !strings.Contains(frame, "FLOWS/S") || !strings.Contains(frame, " - ") {
		t.Errorf("the first frame knows rates already:\n%s", frame)
	}
	ticks <- noon
	if frame := nextFrame(); strings.Contains(frame, " - ") {
		t.Errorf("the second frame knows no rates:\n%s", frame)
	}
	server.Close()
	ticks <- noon
	if text := <-errs; !strings.HasPrefix(text, "sluice: no daemon answers") {
		t.Error(text)
	}
	serveStatus(t, socket)
	ticks <- noon
	nextFrame()
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// JSON comes as one object after the other, YAML as one document after the other.
func TestStatusWatchFormats(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sluice.sock")
	serveStatus(t, socket)
	for format, start := range map[string]string{"json": "{\n", "yaml": "---\n"} {
		ctx, interrupt := context.WithCancel(t.Context())
		var stderr bytes.Buffer
		out, ended := make(frames), make(chan int)
		c := &cli{stdin: strings.NewReader(""), stdout: out, stderr: &stderr}
		go func() { ended <- c.run(ctx, []string{"--socket", socket, "status", "--follow=1ms", "-o", format}) }()
		if first := <-out; !strings.HasPrefix(first, start) {
			t.Errorf("%s begins with %q", format, first)
		}
		interrupt()
		for code, running := 0, true; running; {
			select {
			case <-out:
			case code = <-ended:
				running = false
				if code != exitOK {
					t.Errorf("exit code %d, %s", code, &stderr)
				}
			}
		}
	}
}
