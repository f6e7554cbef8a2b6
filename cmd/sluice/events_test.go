package main

import "testing"

func TestEvents(t *testing.T) {
	s := newWebSession(t)
	s.run("events")
	s.run("backend set web one --state draining")
	s.run("backend set web one --state up")
	s.run("backend set web two --state standby")
	s.run("service set web --name www")
	s.run("backend set www two --state down")
	s.run("events")
	s.run("events --service www --after 2 -o json")
	s.run("events --service dns")
	s.run("events --service web")
	s.run("events --after never")
	s.run("events -o table")
	s.golden()
}
