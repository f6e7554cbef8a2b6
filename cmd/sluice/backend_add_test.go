package main

import "testing"

func TestBackendAdd(t *testing.T) {
	s := newWebSession(t)
	s.run("backend add web 192.168.1.13")
	s.run("backend add 10.0.0.1:80 192.168.1.13:8080 --name three --weight 10 --state draining")
	s.run("backend add dns 2001:db8::12 -o json")
	s.run("backend add dns [2001:db8::13]:53 --weight 0 -o yaml")
	s.run("backend list web")

	s.run("backend add nothing 192.168.1.14")
	s.run("backend add web 192.168.1.11")
	s.run("backend add web 192.168.1.14 --name one")
	s.run("backend add web 192.168.1.14 --name One")
	s.run("backend add web 192.168.1.14 --weight 1001")
	s.run("backend add web 192.168.1.14 --weight -1")
	s.run("backend add web 192.168.1.14 --weight half")
	s.run("backend add web 192.168.1.14 --state asleep")
	s.run("backend add web 10.0.0.1")
	s.run("backend add web 2001:db8::1")
	s.run("backend add web 192.168.1")
	s.run("backend add dns [2001:db8::14]:54")
	s.run("backend add web")
	s.golden()
}
