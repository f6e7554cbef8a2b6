//go:build vm

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/traffic"
)

// An interface that xdp-filter was on first: the daemon shares it, is killed at any moment of its start and
// starts again, is unloaded and comes back, and the filter comes and goes by its own tool. What the filter
// forbids stays forbidden and no connection breaks but by unloading.
func TestShared(t *testing.T) {
	bpffs := fmt.Sprintf("/sys/fs/bpf/sluice-shared-%d", os.Getpid())
	must(t, os.MkdirAll(bpffs, 0o700))
	t.Cleanup(func() { must(t, os.RemoveAll(bpffs)) })
	t.Setenv("LIBXDP_BPFFS", bpffs)
	w := ways[0]
	s := newSite(t)
	s.serve(t, w)
	s.apply(t, w.services(control.ProbeNone, all()...))

	s.stopDaemon()
	s.run(t, binary, "unload", "--yes", "--pin-path", s.pins)
	s.run(t, "xdp-filter", "load", "clients", "-p", "allow", "-f", "tcp")
	s.run(t, "xdp-filter", "port", "-p", "tcp", "-m", "dst", "99")
	config, err := os.ReadFile(s.config)
	must(t, err)
	must(t, os.WriteFile(s.config, append(config, "xdp-share: true\n"...), 0o600))
	s.startDaemon(t)
	s.wantPrograms(t, "xdpfilt_alw_tcp (10), balancer (50)")
	load(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 50, 0)

	ctx, stop := context.WithCancel(t.Context())
	reports := make(chan traffic.Report, 1)
	go func() {
		reports <- traffic.Load{
			Exchange: traffic.HTTP(s.client, w.target(portHTTP), 100), Workers: 2, Rate: 50, Timeout: 10 * time.Second,
		}.Run(ctx)
	}()
	s.stopDaemon()
	begin := time.Now()
	s.startDaemon(t)
	start := time.Since(begin)
	for range 6 {
		s.stopDaemon()
		daemon, err := s.balancer.Command(t.Context(), binary, "run", "--config", s.config)
		must(t, err)
		time.Sleep(rand.N(start))
		daemon.Kill()
		<-daemon.Done()
	}
	s.startDaemon(t)
	stop()
	if report := <-reports; report.Err() != nil || report.Requests < 50 {
		t.Errorf("%d of %d requests failed: %v", report.Failed, report.Requests, report.Err())
	}
	s.wantPrograms(t, "xdpfilt_alw_tcp (10), balancer (50)")
	if folders, err := filepath.Glob(bpffs + "/xdp/*"); err != nil || len(folders) != 2 {
		t.Errorf("kept are %v, want one for each interface", folders)
	}

	s.run(t, "xdp-loader", "unload", "clients", "--all")
	eventually(t, "the balancer, which another tool took off", func() bool { return s.programs(t) == "balancer (50)" })
	load(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 50, 0)
	s.stopDaemon()
	s.run(t, binary, "unload", "--yes", "--pin-path", s.pins)
	if folders, err := filepath.Glob(bpffs + "/xdp/*"); err != nil || len(folders) != 0 {
		t.Errorf("kept are %v", folders)
	}
}

func (s *site) stopDaemon() {
	s.daemon.Kill()
	<-s.daemon.Done()
}

// programs is what shares the interface towards the clients.
func (s *site) programs(t *testing.T) string {
	t.Helper()
	status, err := s.api.Status(t.Context())
	must(t, err)
	var names []string
	for _, p := range status.Interfaces[0].Programs {
		names = append(names, fmt.Sprintf("%s (%d)", p.Name, p.Priority))
	}
	return strings.Join(names, ", ")
}

func (s *site) wantPrograms(t *testing.T, want string) {
	t.Helper()
	if got := s.programs(t); got != want {
		t.Errorf("the interface is shared by %q, want %q", got, want)
	}
}
