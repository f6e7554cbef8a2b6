package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/p2c"
)

func TestBenchP2CWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"bench p2c web",
		"bench p2c --backends 1",
		"bench p2c --slow 0.5",
		"bench p2c --slow NaN",
		"bench p2c --rate NaN",
		"bench p2c --rate -1",
		"bench p2c --rate 3000",
		"bench p2c --rate 2000",
		"bench p2c --rate 50 --duration 1s",
		"bench p2c --duration 5m",
		"bench p2c --rounds 0",
		"bench p2c --mode direct",
		"bench p2c --probe icmp",
		"bench p2c -o yaml",
	} {
		s.run(line)
	}
	s.golden()
}

// A short round of each policy: every request is answered, every flow is counted, and p2c remembers the fewer.
func TestBenchP2C(t *testing.T) {
	for _, mode := range []string{"l2", "nat"} {
		t.Run(mode, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			run := exec.CommandContext(t.Context(), buildProgram(t),
				"bench", "p2c", "--rounds", "1", "--duration", "2s", "--rate", "100", "--backends", "3", "--mode", mode, "-o", "json")
			run.Stdout, run.Stderr = &stdout, &stderr
			if err := run.Run(); err != nil {
				t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
			}
			var report p2c.Report
			if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
				t.Fatalf("standard output is not one JSON object: %v\n%s", err, &stdout)
			}
			maglev, choices := report.Policies[dataplane.PolicyMaglev], report.Policies[dataplane.PolicyP2C]
			if maglev.Requests < 100 || maglev.Requests != choices.Requests {
				t.Errorf("%d and %d requests", maglev.Requests, choices.Requests)
			}
			if maglev.Remembered.Median != 1 {
				t.Errorf("maglev remembers %v of all flows", maglev.Remembered)
			}
			if all := mode == "nat"; all != (choices.Remembered.Median == 1) || choices.Remembered.Median > 0.6 && !all || choices.Remembered.Median == 0 {
				t.Errorf("p2c remembers %v of all flows", choices.Remembered)
			}
			if choices.Left > 2 { // one of 65,536 places of the cache of recent flows may have been another flow's
				t.Errorf("%d flows count as in progress after the last is over", choices.Left)
			}
			if report.P99Ratio.Median <= 0 || choices.P50MS.Median <= 0 || choices.SlowShare.Median <= 0 {
				t.Errorf("figures are missing: %s", &stdout)
			}
			nothingLeft(t, p2c.Traces(run.Process.Pid))
		})
	}
}
