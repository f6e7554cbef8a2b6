package main

import "testing"

func TestServiceSet(t *testing.T) {
	s := newWebSession(t)
	s.run("service set web --name www")
	s.run("service set 10.0.0.1 --probe-interval 500ms --fall 5 -o json")
	s.run("service set 2001:db8::53 --mode ipip -o yaml")

	s.run("service set www")
	s.run("service set web --name x")
	s.run("service set www --name dns")
	s.run("service set www --name 10.0.0.7")
	s.run("service set www --mode l2")
	s.run("service set www --mode nothing")
	s.run("service set www --rise -1")
	s.golden()
}
