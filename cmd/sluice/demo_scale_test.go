package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/sluicelb/sluice/test/demo/day"
)

func TestDemoScale(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes two and a half minutes")
	}
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t), "demo", "scale", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		t.Errorf("%v\n%s%s", err, &stderr, &stdout)
	}
	t.Logf("%s", &stdout)
	var summary day.Summary
	if err := json.Unmarshal(stdout.Bytes(), &summary); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	if summary.Requests < 20_000 || summary.PeakBackends < 6 || summary.ForecastShare < 0.5 || len(summary.Broken) != 0 {
		t.Errorf("%+v", summary)
	}
	nothingLeft(t, day.Traces(run.Process.Pid))
}
