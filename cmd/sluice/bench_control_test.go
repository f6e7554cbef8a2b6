package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicelb/sluice/test/controlplane"
)

func TestBenchControlWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"bench control web",
		"bench control --services 0",
		"bench control --backends 1100",
		"bench control --changes 0",
		"bench control --rounds 0",
		"bench control --probes http",
		"bench control -o yaml",
	} {
		s.run(line)
	}
	s.golden()
}

// A small run has everything that a large one has: all tables are there, every change reached the kernel, and the second
// daemon took over what it found.
func TestBenchControl(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t),
		"bench", "control", "--services", "20", "--backends", "10", "--changes", "3", "--rounds", "1", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
	}
	var report controlplane.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	for _, probes := range controlplane.AllProbes {
		r := report.Probes[probes]
		if r.Switched != 20 || r.ApplyMS.Median <= 0 || r.AdoptMS.Median <= 0 {
			t.Errorf("probes %s: %+v", probes, r)
		}
		for _, kind := range controlplane.Kinds {
			if c := r.Changes[kind]; c.Count != 3 || c.LiveMS.P50 <= 0 || c.AnswerMS.Max <= 0 {
				t.Errorf("probes %s, %s: %+v", probes, kind, c)
			}
		}
		for _, u := range []controlplane.Usage{r.First, r.Second} {
			if u.MapsMiB.Lowest <= 0 || u.OwnMiB.Lowest <= 0 || u.ResidentMiB.Lowest < u.MapsMiB.Lowest+u.OwnMiB.Lowest {
				t.Errorf("probes %s: %+v", probes, u)
			}
		}
	}
	nothingLeft(t, controlplane.Traces(run.Process.Pid))
}

func TestInterruptedBenchControlCleansUp(t *testing.T) {
	run := exec.CommandContext(t.Context(), buildProgram(t), "bench", "control", "--services", "20", "--backends", "10", "--rounds", "50")
	output, err := run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 1024)
	n, _ := output.Read(text) // the first round is over: the second has begun
	if !strings.Contains(string(text[:n]), "1/50") {
		t.Errorf("it says %q", text[:n])
	}
	_ = run.Process.Signal(syscall.SIGINT)
	var exit *exec.ExitError
	if err := run.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, controlplane.Traces(run.Process.Pid))
}
