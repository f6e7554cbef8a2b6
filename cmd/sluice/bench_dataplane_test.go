package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluicelb/sluice/test/packetcost"
)

func TestBenchDataplaneWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"bench dataplane web",
		"bench dataplane --flows 0",
		"bench dataplane --flows many",
		"bench dataplane --flows 20000000",
		"bench dataplane --traffic rst",
		"bench dataplane --mode ipip,direct",
		"bench dataplane --family ipx",
		"bench dataplane --tracking default",
		"bench dataplane --backends 0",
		"bench dataplane --packets 10",
		"bench dataplane --rounds 0",
		"bench dataplane --pps 10",
		"bench dataplane -o yaml",
		"bench dataplane --yes",
		"bench dataplane --interface lo",
		"bench dataplane --interface lo --yes",
	} {
		s.run(line)
	}
	s.golden()
}

func TestBenchDataplane(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t),
		"bench", "dataplane", "--flows", "1000", "--traffic", "ack", "--tracking", "just-enough", "--packets", "2000", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
	}
	var report packetcost.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	if len(report.Rows) != 1 || report.Rows[0].Flows != 1000 || report.Rows[0].Ratio <= 1 {
		t.Errorf("report is %s", &stdout)
	}
	if !strings.HasPrefix(stderr.String(), "1 rows, which take about ") {
		t.Errorf("it does not say how long it takes: %s", &stderr)
	}
	nothingLeft(t, packetcost.Traces(run.Process.Pid))
}
