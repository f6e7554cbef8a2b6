package main

import "testing"

func TestBackendDrain(t *testing.T) {
	s := newWebSession(t)
	s.run("backend drain web one")
	s.run("backend drain web 192.168.1.12 -o json")
	s.run("backend set web one --state up")
	s.run("backend drain web three")
	s.run("backend drain nothing one")
	s.run("backend drain web")
	s.golden()
}
