package main

import (
	"testing"
)

func TestUnloadRefuses(t *testing.T) {
	s := newSession(t)
	s.run("unload --yes --pin-path $DIR/nothing")
	s.run("unload --yes --pin-path $DIR")
	s.run("unload --yes --force --pin-path $DIR") // not a BPF file system
	s.run("unload everything")
	s.golden()
}

func TestUnloadAsks(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("unload --pin-path $DIR")
	for _, answer := range []string{"", "n\n", "yesterday\n"} {
		s.stdin = answer
		s.runWith(&cli{interactive: true}, "unload --pin-path $DIR", []string{"unload", "--socket", s.socket, "--pin-path", s.dir})
	}
	s.golden()
}
