package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/control"
)

// Each term of the score is shown with what it is made of, and what is not known as unknown.
func TestBackendView(t *testing.T) {
	status := busyStatus()
	web := &status.Services[0]
	slow := web.Backends[0]
	slow.Cause, slow.Score, slow.InForce, slow.Reasons = "2 of 2 probes succeeded", 0.36, 0.35, "latency 0.40, load 0.90"
	slow.Terms = health.Terms{Success: 1, Latency: 0.4, Handshakes: 1, Load: 0.9}
	slow.ProbeSuccess, slow.ProbeLatency, slow.PeersLatency = 1, control.Duration(10_123*time.Microsecond), control.Duration(2*time.Millisecond)
	slow.Handshake, slow.PeersHandshake = control.Duration(31*time.Millisecond), control.Duration(29*time.Millisecond)
	slow.HandshakesSeen, slow.HandshakesFailed, slow.Reported = 120.4, 0.01, "90%, ready"
	added := control.BackendStatus{
		Name: "new", Address: slow.Address, Port: 80, Weight: 100, State: control.StateUp, InForce: 0.1, Score: 1, Reasons: "slow start", Since: noon,
		Terms: health.Terms{Success: 1, Latency: 1, Handshakes: 1, Load: 1}, NotProbed: "this host cannot probe it: no buffer space available",
	}
	for _, b := range []*control.BackendStatus{&slow, &web.Backends[1], &added} {
		t.Run(b.Name, func(t *testing.T) {
			var p page
			p.backend(web, b, noon)
			golden(t, p.String())
		})
	}
}

func TestBackendShow(t *testing.T) {
	s := newWebSession(t)
	for _, ref := range []string{"web one", "10.0.0.1:80 192.168.1.11", "web 192.168.1.11:80"} {
		var shown control.BackendStatus
		if out := s.run("backend show -o json " + ref); json.Unmarshal([]byte(out), &shown) != nil || shown.Name != "one" || shown.Score != 1 {
			t.Errorf("%s: %s", ref, out)
		}
	}
	s.transcript.Reset()
	s.run("backend show web three")
	s.run("backend show nothing one")
	s.run("backend show web")
	s.golden()
}
