package main

import "testing"

func TestBackendList(t *testing.T) {
	s := newWebSession(t)
	s.run("backend list web")
	s.run("backend list 10.0.0.1 -o json")
	s.run("backend list dns -o yaml")
	s.run("service add empty 10.0.0.9:80")
	s.run("backend list empty")
	s.run("backend list empty -o json")
	s.run("backend list nothing")
	s.golden()
}
