package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicelb/sluice/brain/scale/replay"
)

// waveCSV is CSV of so many days in steps of five minutes, with the pattern of a day.
func waveCSV(days int) string {
	var text strings.Builder
	text.WriteString("timestamp,requests\n")
	for i := range days * 288 {
		fmt.Fprintf(&text, "%d,%.0f\n", 1760054400+300*i, 300_000*(1+0.5*math.Sin(2*math.Pi*float64(i)/288)))
	}
	return text.String()
}

// The fixed JSON, the table, the curves and the chart of a replay.
func TestScaleReplay(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("wave.csv", waveCSV(4))
	const line = "scale replay --input $DIR/wave.csv --step 5m --service-rate 200 --boot 180s --slo 100ms"
	var report replay.Report
	if out := s.run(line + " --curve -o json"); json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("no report: %s", out)
	}
	for _, name := range replay.Policies {
		if report.Policies[name].InstanceHours == 0 {
			t.Errorf("%s has no instance hours: %+v", name, report.Policies)
		}
	}
	if len(report.Curves[replay.Reactive]) != len(replay.Targets) || len(report.Curves[replay.Predictive]) != len(replay.Risks) {
		t.Errorf("the curves are %+v", report.Curves)
	}
	out := s.run(line + " --policy reactive,oracle --train 0 --png $DIR/chart.png")
	for _, want := range []string{"INSTANCE HOURS", "reactive", "oracle"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "predictive") {
		t.Errorf("a policy that was not asked for is in\n%s", out)
	}
	if picture, err := os.ReadFile(filepath.Join(s.dir, "chart.png")); err != nil || !strings.HasPrefix(string(picture), "\x89PNG") {
		t.Errorf("the chart (%v) begins with %.8q", err, picture)
	}
}

func TestScaleReplayWrong(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("wave.csv", waveCSV(1))
	s.file("zero.csv", "timestamp,requests\n0,0\n60,0\n120,0\n")
	const line = "scale replay --input $DIR/wave.csv --step 5m --service-rate 200"
	for _, wrong := range []string{
		"scale replay",
		"scale replay --service-rate 200",
		"scale replay --service-rate 200 --input $DIR/missing.csv",
		"scale replay --service-rate 0 --input $DIR/wave.csv",
		line + " --scale 0",
		line + " --slo 1ms",
		line + " --boot -1s",
		line + " --risk 0",
		line + " --risk 100%",
		line + " --target 0%",
		line + " --train 100%",
		line + " --policy best",
		line + " --step 7s",
		line + " --step 1m",
		line + " --png chart.gif",
		line + " --price -1",
		line + " --zone Moon",
		line + " --calendar $DIR/missing.ics",
		line + " -o csv",
		"scale",
	} {
		s.run(wrong)
	}
	s.golden()
}
