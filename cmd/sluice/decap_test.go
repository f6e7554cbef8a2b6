package main

import "testing"

func TestDecapWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("decap")
	s.run("decap attach")
	s.run("decap attach eth0")
	s.run("decap attach --interface eth0 --xdp-mode fast")
	s.run("decap detach")
	s.run("decap detach --interface eth0 --pin-path $DIR")
	s.golden()
}
