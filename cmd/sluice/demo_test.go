package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sluicelb/sluice/test/demo"
)

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes 20 s")
	}
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t), "demo", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	begin := time.Now()
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	var summary demo.Summary
	if err := json.Unmarshal(stdout.Bytes(), &summary); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	if summary.Requests < 2000 || summary.MovedConnections != 0 || len(summary.Events) != 3 || len(summary.Broken) != 0 {
		t.Errorf("%+v", summary)
	}
	nothingLeft(t, demo.Traces(run.Process.Pid))
}

func TestInterruptedDemoCleansUp(t *testing.T) {
	run := exec.CommandContext(t.Context(), buildProgram(t), "demo")
	var output bytes.Buffer
	run.Stdout, run.Stderr = &output, &output
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(2*time.Second, func() { _ = run.Process.Signal(syscall.SIGINT) })
	var exit *exec.ExitError
	if err := run.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v\n%s", err, &output)
	}
	nothingLeft(t, demo.Traces(run.Process.Pid))
}
