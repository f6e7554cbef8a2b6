package throughput

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// sampled is what so many requests in two seconds are, which took half of one processor, a fifth of that in software
// interrupts.
func sampled(requests int64) Sample {
	return Sample{Requests: requests, Seconds: 2, CPU: 1, SoftIRQ: 0.2}
}

func span(median, lowest, highest float64) stage.Spread {
	return stage.Spread{Median: median, Lowest: lowest, Highest: highest}
}

func TestSummary(t *testing.T) {
	all := make(samples)
	for round, rates := range []map[Contender]int64{
		{Forwarding: 1000, NFTables: 500, SluiceNAT: 800},
		{Forwarding: 2000, NFTables: 1000, SluiceNAT: 1000}, // the machine was twice as fast
		{Forwarding: 1000, NFTables: 800, SluiceNAT: 1000},
	} {
		for c, requests := range rates {
			x := sampled(requests)
			if c == NFTables && round == 1 {
				x.Failed, x.Problem = 3, "reset"
			}
			all.add(c, Connections, x)
		}
	}
	all.add(SluiceNAT, Bulk, sampled(250))
	r := summarize(Options{Rounds: 3, Duration: 2 * time.Second}, []float64{0.5, 0, 0.1}, all)

	nat := r.Contenders[SluiceNAT][Connections]
	if nat.Rate != span(500, 400, 500) || nat.Requests != 2800 || nat.Failed != 0 || nat.Gigabits != nil {
		t.Errorf("nat: %+v", nat)
	}
	if nat.CPU != span(1000, 1000, 1250) || nat.SoftIRQ != span(200, 200, 250) {
		t.Errorf("nat costs %+v and %+v", nat.CPU, nat.SoftIRQ)
	}
	if *nat.VsForwarding != span(0.8, 0.5, 1) || *nat.VsNFTables != span(1.25, 1, 1.6) {
		t.Errorf("nat compared: %+v and %+v, want ratios of each round", *nat.VsForwarding, *nat.VsNFTables)
	}
	bulk := r.Contenders[SluiceNAT][Bulk]
	if want := 125 * float64(1<<20) * 8 / 1e9; bulk.Gigabits == nil || math.Abs(bulk.Gigabits.Median-want) > 1e-9 {
		t.Errorf("bulk: %+v, want %v Gbit/s", bulk, want)
	}
	if bulk.VsForwarding != nil || bulk.VsNFTables != nil {
		t.Errorf("bulk is compared with nothing: %+v", bulk)
	}
	if r.Rest != span(0.1, 0, 0.5) {
		t.Errorf("at rest: %+v", r.Rest)
	}
	if got := r.Broken(); got != "3 requests failed through nftables (connections): reset" {
		t.Errorf("broken: %q", got)
	}
}

// The JSON that docs/benchmarks.md describes.
func TestReportJSON(t *testing.T) {
	all := make(samples)
	all.add(Forwarding, KeepAlive, sampled(1000))
	encoded, err := json.Marshal(summarize(Options{Rounds: 1, Duration: 2 * time.Second}, []float64{0}, all))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"rounds":1,"seconds":2,"rest":{"median":0,"lowest":0,"highest":0},"contenders":{"forwarding":{"keepalive":{` +
		`"rate":{"median":500,"lowest":500,"highest":500},` +
		`"cpu_us":{"median":1000,"lowest":1000,"highest":1000},"softirq_us":{"median":200,"lowest":200,"highest":200},` +
		`"vs_forwarding":{"median":1,"lowest":1,"highest":1},"requests":1000,"failed":0}}}}`
	if string(encoded) != want {
		t.Errorf("%s\nwant\n%s", encoded, want)
	}
}

func TestReportText(t *testing.T) {
	all := make(samples)
	for c, requests := range map[Contender]int64{Forwarding: 20000, NFTables: 16000, SluiceNAT: 18000} {
		all.add(c, Connections, sampled(requests))
	}
	all.add(Forwarding, Bulk, sampled(250))
	r := summarize(Options{Rounds: 1, Duration: 2 * time.Second}, []float64{0.04}, all)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	const want = `
CONNECTIONS   NEW CONNECTIONS/S  LOWEST TO HIGHEST   / FORWARDING / NFTABLES       CPU µS SOFTIRQ µS  FAILED
forwarding                10000  10000 to 10000      1.00         1.25               50.0       10.0       0
nftables                   8000  8000 to 8000        0.80         1.00               62.5       12.5       0
sluice-nat                 9000  9000 to 9000        0.90         1.12               55.6       11.1       0

BULK                     GBIT/S  LOWEST TO HIGHEST   / FORWARDING / NFTABLES       CPU µS SOFTIRQ µS  FAILED
forwarding                 1.05  1.05 to 1.05        1.00         -                4000.0      800.0       0

Before the requests 4 % of the processors' time were spent on something else, 4 to 4 %.
`
	if text.String() != want {
		t.Errorf("%s\nwant\n%s", text.String(), want)
	}
}

func TestRequestAndAnswer(t *testing.T) {
	for _, last := range []bool{false, true} {
		if size, got, ok := parseRequest(request(1234, last)); size != 1234 || got != last || !ok {
			t.Errorf("%d, %v, %v", size, got, ok)
		}
	}
	for _, text := range []string{
		"", "\r\n\r\n", "POST /1 HTTP/1.1\r\n\r\n", "GET /1 HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /-1 HTTP/1.1\r\n\r\n",
	} {
		if _, _, ok := parseRequest(text); ok {
			t.Errorf("%q is taken for a request", text)
		}
	}
	const want = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
	if got := answer(7, true); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
