package main

import (
	"encoding/json"
	"testing"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

func TestServiceView(t *testing.T) {
	status := busyStatus()
	for _, s := range status.Services {
		t.Run(s.Name, func(t *testing.T) {
			var p page
			p.service(&s, noon)
			golden(t, p.String())
		})
	}
}

// What people see of a service in transition, whose backends take flows by their load.
func TestServiceViewInTransition(t *testing.T) {
	s := busyStatus().Services[0]
	s.Policy = dataplane.PolicyP2C
	s.Flows = dataplane.TrackingStatus{Kind: dataplane.TrackingJustEnough, Stable: 240, InTransition: 11, OldestSeconds: 125, Remembered: 2041}
	for i := range s.Backends {
		s.Backends[i].Active = 7 * i
	}
	var p page
	p.service(&s, noon)
	golden(t, p.String())
}

func TestServiceShow(t *testing.T) {
	s := newWebSession(t)
	for _, ref := range []string{"web", "10.0.0.1", "10.0.0.1:80", "10.0.0.1:80/tcp"} {
		var shown control.ServiceStatus
		if out := s.run("service show -o json " + ref); json.Unmarshal([]byte(out), &shown) != nil || shown.Name != "web" || len(shown.Backends) != 2 {
			t.Errorf("%s: %s", ref, out)
		}
	}
	s.transcript.Reset()
	s.run("service add empty 10.0.0.9:80")
	s.run("service show empty")
	s.run("service show empty -o yaml")
	s.run("service show nothing")
	s.run("service show 10.0.0.2")
	s.golden()
}
