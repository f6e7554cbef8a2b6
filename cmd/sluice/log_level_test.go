package main

import "testing"

func TestLogLevel(t *testing.T) {
	s := newSession(t)
	s.run("log-level")
	s.run("log-level debug")
	s.run("log-level -o json")
	s.run("log-level loud")
	s.run("log-level info debug")
	s.golden()
}
