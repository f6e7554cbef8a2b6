package main

import "testing"

func TestVersion(t *testing.T) {
	s := newSession(t)
	s.run("version")
	s.run("version -o json")
	s.run("--version")
	s.golden()
}

func TestVersionWithoutDaemon(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("version")
	s.run("version -o yaml")
	s.golden()
}
