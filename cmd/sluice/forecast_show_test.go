package main

import (
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/forecast/live"
)

// constantCSV is CSV of so many minutes up to the one that has ended, all with the same traffic.
func constantCSV(minutes, flows int) string {
	var text strings.Builder
	text.WriteString("timestamp,requests\n")
	end := time.Now().Truncate(time.Minute)
	for i := minutes; i > 0; i-- {
		fmt.Fprintf(&text, "%d,%d\n", end.Add(-time.Duration(i)*time.Minute).Unix(), flows)
	}
	return text.String()
}

// What was imported is forecast from at once, shown as a table, as JSON and as a chart.
func TestForecastShow(t *testing.T) {
	s := newWebSession(t)
	s.file("requests.csv", constantCSV(2*1440, 500))
	s.run("history import $DIR/requests.csv --service web")
	var report live.Report
	if out := s.run("forecast show web -o json"); json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("no report: %s", out)
	}
	if len(report.Forecast) != live.Horizon || len(report.Recent) != 120 || len(report.Models) == 0 || report.Learns {
		t.Errorf("the report is %+v", report)
	}
	if last := report.Forecast[live.Horizon-1]; last.P50 != 500 || last.Confidence < 0.8 {
		recent, _ := json.Marshal(report.Recent[110:])
		t.Errorf("500 flows each minute are forecast as %+v after %s", last, recent)
	}
	s.run("event add --service web --at " + report.End.Add(10*time.Minute).Format(time.RFC3339) + " --for 1h --expect +100%")
	if out := s.run("forecast show web -o json"); json.Unmarshal([]byte(out), &report) != nil || len(report.Forecast) != live.Horizon {
		t.Fatalf("no report: %s", out)
	}
	if before, during := report.Forecast[5].P50, report.Forecast[live.Horizon-1].P50; before != 500 || math.Abs(during-1000) > 50 {
		t.Errorf("before an event that doubles 500 flows %g are forecast, and %g during it", before, during)
	}
	for _, want := range []string{"Service web", "simple models, since", "500", "moving-average", "the next 15"} {
		if out := s.run("forecast show 10.0.0.1:80 --plot"); !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	s.run("forecast show web --png $DIR/web.png")
	picture, err := os.Open(filepath.Join(s.dir, "web.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	if _, err := png.Decode(picture); err != nil {
		t.Errorf("web.png: %v", err)
	}
	s.run("forecast show web --png $DIR/web.svg")
	if text, err := os.ReadFile(filepath.Join(s.dir, "web.svg")); err != nil || !strings.Contains(string(text), "<svg") {
		t.Errorf("web.svg (%v) begins with %.80s", err, text)
	}
}

func TestForecastWrong(t *testing.T) {
	s := newWebSession(t)
	for _, line := range []string{
		"forecast show nothing",
		"forecast show",
		"forecast show web --png chart.gif",
		"forecast show web --png",
		"forecast show web --png $DIR/missing/chart.png",
		"forecast show web -o csv",
		"forecast confirm nothing",
		"forecast confirm web --last 0s",
		"forecast confirm web",
	} {
		s.run(line)
	}
	s.golden()
}
