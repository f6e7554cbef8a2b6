package packetcost

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/generator"
)

// Three rounds of one case; the middle one counts.
var measured = []outcome{{
	Case:       Case{IPv4, dataplane.ModeIPIP, generator.SYN, dataplane.TrackingJustEnough, 1_000_000},
	remembered: 3,
	samples: [contenders][]sample{
		laneBalancer:     {{ns: 150, mpps: 1.5}, {ns: 120, mpps: 2}, {ns: 180, mpps: 1}},
		laneEmpty:        {{ns: 40, mpps: 4}, {ns: 60, mpps: 5}, {ns: 50, mpps: 6}},
		laneEncapsulator: {{ns: 70, mpps: 4}, {ns: 60, mpps: 3}, {ns: 65, mpps: 2}},
	},
}}

func TestReport(t *testing.T) {
	report := newReport(measured)
	got, err := json.Marshal(report)
	must(t, err)
	const want = `{"empty_ns":50,"encap_ns":65,"empty_mpps":5,"encap_mpps":3,"rows":[` +
		`{"family":"ipv4","mode":"ipip","traffic":"syn","tracking":"just-enough","flows":1000000,` +
		`"ns":150,"net_ns":100,"ratio":3,"mpps":1.5,"spread":0.4,"remembered":3}]}`
	if string(got) != want {
		t.Errorf("report is\n%s\nwant\n%s", got, want)
	}
}

func TestMarkdown(t *testing.T) {
	report := newReport(measured)
	var got bytes.Buffer
	must(t, report.WriteMarkdown(&got))
	const want = `| family | mode | traffic | tracking | flows | ns | net ns | ratio | spread | million packets/s | remembered |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| empty |  |  |  |  | 50.0 | 0.0 | 1.00 |  | 5.00 |  |
| encapsulate |  |  |  |  | 65.0 | 15.0 | 1.30 |  | 3.00 |  |
| ipv4 | ipip | syn | just-enough | 1000000 | 150.0 | 100.0 | 3.00 | 40 % | 1.50 | 3 |
`
	if got.String() != want {
		t.Errorf("table is\n%s\nwant\n%s", &got, want)
	}
}

func TestText(t *testing.T) {
	report := newReport(measured)
	var got bytes.Buffer
	must(t, report.WriteText(&got))
	const want = `
FAMILY       MODE  TRAFFIC  TRACKING       FLOWS     NS  NET NS  RATIO  SPREAD  MILLION PACKETS/S  REMEMBERED
empty                                              50.0     0.0   1.00                       5.00
encapsulate                                        65.0    15.0   1.30                       3.00
ipv4         ipip  syn      just-enough  1000000  150.0   100.0   3.00    40 %               1.50           3
`
	if "\n"+got.String() != want {
		t.Errorf("text is\n%s\nwant%s", &got, want)
	}
}
