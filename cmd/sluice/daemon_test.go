package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
)

// serveAPI starts a real daemon in a network namespace that has no way to any backend, so that what
// commands show is always the same. Its probes wait for an hour. A wrapper is a command that runs the one
// after it.
func serveAPI(t *testing.T, socket string, wrapper ...string) {
	t.Helper()
	l := lab.ForTest(t)
	balancer, err := l.Host("balancer")
	check(t, err)
	neighbour, err := l.Host("neighbour")
	check(t, err)
	check(t, l.Connect(balancer, "eth0", neighbour, "eth0", lab.LinkOptions{}))
	folder := t.TempDir()
	pins := fmt.Sprintf("/sys/fs/bpf/sluice-cli-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
	t.Cleanup(func() { check(t, dataplane.Unload(pins)) })
	config := filepath.Join(folder, "sluice.yaml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `
interfaces: [eth0]
pin-path: %s
store: %s
api: {socket: %s}
metrics: {address: ""}
limits: {slots: 262144, flows: 1024}
defaults: {probe: {interval: 1h}}
`, pins, filepath.Join(folder, "sluice.db"), socket), 0o600))
	command := append(wrapper, buildProgram(t), "run", "--config", config)
	daemon, err := balancer.Command(t.Context(), command[0], command[1:]...)
	check(t, err)
	client := control.NewClient(socket)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := client.Version(t.Context()); err == nil {
			return
		}
		select {
		case <-daemon.Done():
			t.Fatalf("the daemon ended: %s", daemon.Output())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not answer: %s", daemon.Output())
		}
	}
}

var program struct {
	once sync.Once
	path string
	err  error
}

// buildProgram builds the program, once: daemons, and backends of the demo, are processes of it.
func buildProgram(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		var folder string
		if folder, program.err = os.MkdirTemp("", "sluice-cli-"); program.err != nil {
			return
		}
		program.path = filepath.Join(folder, "sluice")
		build := exec.Command("go", "build", "-o", program.path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("building: %w\n%s", err, out)
		}
	})
	check(t, program.err)
	return program.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.path != "" {
		os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
