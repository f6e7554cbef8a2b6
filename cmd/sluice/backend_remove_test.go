package main

import "testing"

func TestBackendRemove(t *testing.T) {
	s := newWebSession(t)
	s.run("backend remove web one")
	s.run("backend remove web 192.168.1.12:8080 -o json")
	s.run("backend list web")
	s.run("backend remove web one")
	s.run("backend remove nothing one")
	s.run("backend remove web")
	s.golden()
}
