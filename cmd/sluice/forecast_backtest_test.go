package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const elbTrace = "../../brain/forecast/testdata/elb-request-count-5min.csv.gz"

// scoreKeys are promised to whoever reads the JSON.
var scoreKeys = []string{
	"confident_share", "confident_within10", "coverage80", "fit_seconds", "mae", "mase", "pinball", "predict_ms",
	"skill", "smape", "within10", "within20",
}

// TestForecastBacktest runs models that learn in no time on the requests of a real load balancer.
func TestForecastBacktest(t *testing.T) {
	s := sessionWithoutDaemon(t)
	out := s.run("forecast backtest --input " + elbTrace + " --column requests --models ridge,holt-winters -o json")
	var report struct {
		Points       int    `json:"points"`
		TestPoints   int    `json:"test_points"`
		BestBaseline string `json:"best_baseline"`
		Models       map[string]map[string]float64
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if report.Points != 4032 || report.TestPoints != 1210 && report.TestPoints != 1211 || report.BestBaseline != "moving-average" {
		t.Errorf("got %d values, %d scored, best baseline %s", report.Points, report.TestPoints, report.BestBaseline)
	}
	models := slices.Sorted(maps.Keys(report.Models))
	if want := []string{"ensemble", "holt-winters", "moving-average", "naive", "ridge", "seasonal-naive"}; !slices.Equal(models, want) {
		t.Errorf("the models are %v, not %v", models, want)
	}
	for name, scores := range report.Models {
		if keys := slices.Sorted(maps.Keys(scores)); !slices.Equal(keys, scoreKeys) {
			t.Errorf("the scores of %s are %v, not %v", name, keys, scoreKeys)
		}
	}
	ensemble := report.Models["ensemble"]
	if ensemble["skill"] < 0.05 || ensemble["coverage80"] < 0.78 || ensemble["coverage80"] > 0.83 {
		t.Errorf("the ensemble's scores are %v", ensemble)
	}
}

// TestForecastBacktestTable reads the trace from standard input and prints a table, the best model first.
func TestForecastBacktestTable(t *testing.T) {
	s := sessionWithoutDaemon(t)
	rows := []string{"timestamp,value"}
	for hour := range 9 * 24 {
		rows = append(rows, fmt.Sprintf("%d,%d", 1767571200+3600*hour, 100+(hour%24)*(hour%24)))
	}
	s.stdin = strings.Join(rows, "\n") + "\n"
	out := s.run("forecast backtest --input - --step 1h --horizon 1h --models formula")
	lines := strings.Split(out, "\n")
	if !strings.HasPrefix(out, "216 values, 65 of them scored; best baseline: seasonal-naive\n") || len(lines) != 9 {
		t.Errorf("got\n%s", out)
	}
}

func TestForecastBacktestWrong(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("bad.csv", "timestamp,value\n2026-01-05T00:00:00Z,1\n2026-01-05T00:05:00Z,many\n")
	s.file("short.csv", "timestamp,value\n2026-01-05T00:00:00Z,1\n2026-01-05T00:05:00Z,2\n2026-01-05T00:10:00Z,3\n")
	s.file("negative.csv", "timestamp,value\n2026-01-05T00:00:00Z,1\n2026-01-05T00:05:00Z,-2\n")
	s.run("forecast backtest")
	s.run("forecast backtest --input $DIR/none.csv")
	s.run("forecast backtest --input $DIR/bad.csv")
	s.run("forecast backtest --input $DIR/negative.csv")
	s.run("forecast backtest --input $DIR/short.csv --column requests")
	s.run("forecast backtest --input $DIR/short.csv --step 1m --horizon 1m")
	s.run("forecast backtest --input $DIR/short.csv --horizon 7m")
	s.run("forecast backtest --input $DIR/short.csv --models prophet")
	s.run("forecast backtest --input $DIR/short.csv --missing some")
	s.run("forecast backtest --input $DIR/short.csv --train 100%")
	s.golden()
}
