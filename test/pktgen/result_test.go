package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// As Linux 6.1 shows a device.
const shown = `Params: count 1000  min_pkt_size: 60  max_pkt_size: 60
     frags: 0  delay: 0  clone_skb: 0  ifname: eth0@0
     flows: 0 flowlen: 0
Current:
     pkts-sofar: 1000  errors: 3
     started: 4294967296us  stopped: 4295967296us idle: 12us
     seq_num: 1001  cur_dst_mac_offset: 0  cur_src_mac_offset: 0
Result: OK: 1000000(c999988+d12) usec, 1000 (60byte,0frags)
  1000pps 0Mb/sec (480000bps) errors: 3
`

func TestParseDevice(t *testing.T) {
	got, err := parseDevice(shown)
	if want := (device{1000, 3, 4294967296, 4295967296}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := parseDevice("Result: Idle"); err == nil {
		t.Errorf("nothing was read as %+v", got)
	}
}

func TestScrape(t *testing.T) {
	text := `# TYPE sluice_build_info gauge
sluice_build_info{version="1"} 1
# TYPE sluice_backend_packets_total counter
sluice_backend_packets_total{backend="one",service="web"} 10
sluice_backend_packets_total{backend="two",service="web"} 20
# TYPE sluice_drops_total counter
sluice_drops_total{reason="no_backend"} 2
sluice_drops_total{reason="denied"} 5
# TYPE sluice_passes_total counter
sluice_passes_total{reason="no_service"} 7
`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
	defer server.Close()
	got, err := scrape(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	want := &counters{Forwarded: 25, Ends: map[string]uint64{"drop_no_backend": 1, "pass_no_service": 7}}
	before := counters{Forwarded: 5, Ends: map[string]uint64{"drop_no_backend": 1, "drop_denied": 5}}
	if diff := cmp.Diff(want, got.since(before)); diff != "" {
		t.Error(diff)
	}
	text = "# TYPE up gauge\nup 1\n"
	if _, err := scrape(t.Context(), server.URL); err == nil {
		t.Error("another program's metrics were taken for Sluice's")
	}
}

func TestResult(t *testing.T) {
	r := result{
		load:    load{Size: 60, Flows: 1000, Threads: 1},
		sent:    sent{Sent: 1000, Seconds: 0.5, PerSecond: 2000, Megabits: 0.96},
		counted: &counters{Forwarded: 900, Ends: map[string]uint64{"drop_no_backend": 60, "drop_denied": 40}},
	}
	const line = "    60      1000        1        max         2000        1.0         1800   10.0 %  drop_denied 40, drop_no_backend 60"
	if diff := cmp.Diff(line, r.String()); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(r)
	want := `{"size":60,"flows":1000,"threads":1,"sent":1000,"errors":0,"seconds":0.5,"per_second":2000,"megabits_per_second":0.96,` +
		`"forwarded":900,"ends":{"drop_denied":40,"drop_no_backend":60}}`
	if diff := cmp.Diff(want, string(text)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	r.counted = nil
	if text, err := json.Marshal(r); err != nil || string(text) != `{"size":60,"flows":1000,"threads":1,"sent":1000,"errors":0,"seconds":0.5,"per_second":2000,"megabits_per_second":0.96}` {
		t.Errorf("%s, %v", text, err)
	}
}
