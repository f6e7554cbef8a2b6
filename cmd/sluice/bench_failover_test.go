package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicelb/sluice/test/failover"
	"github.com/sluicelb/sluice/test/p2c"
	"github.com/sluicelb/sluice/test/packetcost"
	"github.com/sluicelb/sluice/test/throughput"
)

func TestBenchFailoverWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"bench failover web",
		"bench failover --profile slow",
		"bench failover --fault kill,nothing",
		"bench failover --trials 0",
		"bench failover --mode direct",
		"bench failover -o yaml",
		"bench failover --false-ejections ten",
	} {
		s.run(line)
	}
	s.golden()
}

// One trial of two faults: both are noticed, and nobody is disturbed. No probe notices a silence before some clients do.
func TestBenchFailover(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t),
		"bench", "failover", "--trials", "1", "--profile", "default", "--fault", "kill,silent", "--haproxy=false", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
	}
	var report failover.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	for _, fault := range []failover.Fault{failover.Kill, failover.Silent} {
		r := report.Profiles["default"][fault]
		if r.Trials != 1 || r.Undetected != 0 || r.DetectMS.Max <= 0 || r.Disturbed != 0 {
			t.Errorf("%s: %+v", fault, r)
		}
	}
	if r := report.Profiles["default"][failover.Silent]; r.Failed == 0 || r.GapMS.Max <= 0 {
		t.Errorf("nobody noticed the silence: %+v", r)
	}
	nothingLeft(t, failover.Traces(run.Process.Pid))
}

func TestInterruptedBenchCleansUp(t *testing.T) {
	for line, traces := range map[string]func(int) []string{
		"dataplane":                     packetcost.Traces,
		"failover":                      failover.Traces,
		"http --contenders sluice-ipip": throughput.Traces,
		"p2c":                           p2c.Traces,
	} {
		t.Run(line, func(t *testing.T) {
			run := exec.CommandContext(t.Context(), buildProgram(t), append([]string{"bench"}, strings.Fields(line)...)...)
			var output bytes.Buffer
			run.Stdout, run.Stderr = &output, &output
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(4*time.Second, func() { _ = run.Process.Signal(syscall.SIGINT) }) // while it measures
			var exit *exec.ExitError
			if err := run.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
				t.Errorf("it ended with %v\n%s", err, &output)
			}
			nothingLeft(t, traces(run.Process.Pid))
		})
	}
}

// nothingLeft wants no file that matches one of the patterns.
func nothingLeft(t *testing.T, patterns []string) {
	t.Helper()
	for _, pattern := range patterns {
		if names, err := filepath.Glob(pattern); err != nil || len(names) > 0 {
			t.Errorf("%v is left (%v)", names, err)
		}
	}
}
