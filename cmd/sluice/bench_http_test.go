package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/sluicelb/sluice/test/throughput"
)

func TestBenchHTTPWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"bench http web",
		"bench http --contenders katran",
		"bench http --workloads connections,uploads",
		"bench http --rounds 0",
		"bench http --seconds 0.01",
		"bench http --xdp-mode fast",
		"bench http -o yaml",
	} {
		s.run(line)
	}
	s.golden()
}

// A short run of every workload, through the kernel and through Sluice: all requests are answered.
func TestBenchHTTP(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(t.Context(), buildProgram(t),
		"bench", "http", "--rounds", "1", "--seconds", "0.3", "--contenders", "forwarding,sluice-nat", "--xdp-mode", "generic", "--threaded-napi", "-o", "json")
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
	}
	var report throughput.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
	}
	if report.Rounds != 1 || report.Seconds != 0.3 || len(report.Contenders) != 2 {
		t.Errorf("%s", &stdout)
	}
	for _, c := range []throughput.Contender{throughput.Forwarding, throughput.SluiceNAT} {
		for _, w := range throughput.Workloads {
			x := report.Contenders[c][w]
			if x.Requests == 0 || x.Failed != 0 || x.Rate.Median <= 0 || x.CPU.Median <= 0 {
				t.Errorf("%s, %s: %+v", c, w, x)
			}
			if x.VsForwarding == nil || x.VsNFTables != nil || (x.Gigabits != nil) != (w == throughput.Bulk) {
				t.Errorf("%s, %s is compared wrongly: %+v", c, w, x)
			}
		}
	}
	nothingLeft(t, throughput.Traces(run.Process.Pid))
}
