package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/history"
)

// recentCSV is CSV of the three minutes before the last ones.
func recentCSV(header string, rows ...string) string {
	text := header + "\n"
	from := time.Now().Truncate(time.Minute).Add(-10 * time.Minute)
	for i, row := range rows {
		text += fmt.Sprintf("%s,%s\n", from.Add(time.Duration(i)*time.Minute).UTC().Format(time.RFC3339), row)
	}
	return text
}

// What is imported is shown and exported, by the name or the address of the service, and imported again as it was.
func TestHistory(t *testing.T) {
	s := newWebSession(t)
	s.file("requests.csv", recentCSV("timestamp,bytes,requests", "9,120", "8,", "7,80.5"))
	s.file("all.csv", recentCSV("timestamp,handshake,new-flows,errors", "0.0203,12345678,0.01", ",5,"))
	s.run("history show web")
	s.run("history import $DIR/requests.csv --service web --column requests")
	s.run("history show 10.0.0.1:80")
	s.run("history show web --last 1m -o json")
	s.run("history show web -o json")
	s.run("history import $DIR/all.csv --service dns")
	s.run("history show dns")
	s.stdin = s.run("history export dns")
	s.run("history import - --service web -o json")
	s.run("history export web --last 1h -o json")
	s.golden()
}

func TestHistoryWrong(t *testing.T) {
	s := newWebSession(t)
	s.file("bad.csv", recentCSV("timestamp,requests", "1", "many"))
	s.file("good.csv", recentCSV("timestamp,requests", "1"))
	s.file("old.csv", "timestamp,requests\n1995-07-01T04:00:00Z,42\n")
	for _, line := range []string{
		"history import $DIR/bad.csv --service web",
		"history import $DIR/old.csv --service web",
		"history import $DIR/good.csv --service web --column bytes",
		"history import $DIR/good.csv --service nothing",
		"history import $DIR/good.csv",
		"history import $DIR/nothing.csv --service web",
		"history import --service web",
		"history export nothing",
		"history show nothing",
		"history show web --last 0s",
		"history show web --last soon",
		"history export web -o yaml",
		"history",
	} {
		s.run(line)
	}
	s.run("history show web")
	s.golden()
}

// A service that comes back under its name finds its history again.
func TestHistoryOfRemoved(t *testing.T) {
	s := newWebSession(t)
	s.file("requests.csv", recentCSV("timestamp,requests", "120"))
	s.run("history import $DIR/requests.csv --service web")
	s.run("service remove web")
	s.run("history show web")
	s.run("service add web 10.0.0.7:443")
	var points []history.Point
	if out := s.run("history show web -o json"); json.Unmarshal([]byte(out), &points) != nil || len(points) != 1 || points[0].Row[history.NewFlows] != 120 {
		t.Errorf("it has %s", out)
	}
}

// A long history goes through in pieces, each minute once.
func TestHistoryLong(t *testing.T) {
	s := newWebSession(t)
	from := time.Now().Add(-7 * 24 * time.Hour)
	var file strings.Builder
	file.WriteString("t,v\n")
	for i := range 7*24*60 - 2 {
		fmt.Fprintf(&file, "%d,%d\n", from.Add(time.Duration(i)*time.Minute).Unix(), i)
	}
	s.file("long.csv", file.String())
	s.run("history import $DIR/long.csv --service web")
	lines := strings.Split(strings.TrimSpace(s.run("history export web")), "\n")
	if len(lines) != 7*24*60-1 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines[1:] {
		if at := from.Add(time.Duration(i) * time.Minute).Truncate(time.Minute).UTC(); line != fmt.Sprintf("%s,%d,,,,,,,", at.Format(time.RFC3339), i) {
			t.Fatalf("line %d is %s", i+2, line)
		}
	}
}
