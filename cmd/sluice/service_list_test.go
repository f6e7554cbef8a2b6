package main

import "testing"

func TestServiceList(t *testing.T) {
	s := newSession(t)
	s.run("service list")
	s.run("service list -o json")
	s.golden()
}

func TestServiceListFormats(t *testing.T) {
	s := newWebSession(t)
	s.run("service list")
	s.run("service list -o json")
	s.run("service list -o yaml")
	s.golden()
}
