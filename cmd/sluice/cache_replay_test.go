package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

const oltpTrace = "../../cache/replay/testdata/oltp-part.keys.gz"

// TestCacheReplay runs a real trace; what the JSON names is promised.
func TestCacheReplay(t *testing.T) {
	s := sessionWithoutDaemon(t)
	var report map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.run("cache replay --trace "+oltpTrace+" --size 1000 -o json")), &report); err != nil {
		t.Fatal(err)
	}
	var engines map[string]float64
	if err := json.Unmarshal(report["engines"], &engines); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(engines)); !slices.Equal(names, []string{"belady", "lru", "otter", "ristretto"}) {
		t.Errorf("the engines are %v", names)
	}
	if string(report["accesses"]) != "200000" || string(report["default"]) != `"otter"` || len(report) != 3 {
		t.Errorf("got %s", report)
	}
	for name, ratio := range engines {
		if ratio > engines["belady"] || name != "belady" && ratio > engines["otter"] {
			t.Errorf("%s hits %f, of %v", name, ratio, engines)
		}
	}
}

// TestCacheReplayTable reads the trace from standard input.
func TestCacheReplayTable(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.stdin = strings.Repeat("a\nb\n", 100)
	s.run("cache replay --trace - --size 2")
	s.golden()
}

func TestCacheReplayWrong(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("empty", "")
	s.run("cache replay")
	s.run("cache replay --trace $DIR/none.gz")
	s.run("cache replay --trace $DIR/empty")
	s.run("cache replay --trace $DIR/empty --size 0")
	s.golden()
}
