package main

import "testing"

func TestServiceRemove(t *testing.T) {
	s := newWebSession(t)
	s.run("service remove web")
	s.run("service remove web")
	s.run("service remove [2001:db8::53]:53/udp -o json")
	s.run("service list")
	s.run("service remove")
	s.golden()
}

func TestServiceRemoveAmbiguous(t *testing.T) {
	s := newWebSession(t)
	s.run("service add web-tls 10.0.0.1:443")
	s.run("service remove 10.0.0.1")
	s.run("service remove 10.0.0.1:443")
	s.golden()
}
