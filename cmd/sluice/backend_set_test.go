package main

import "testing"

func TestBackendSet(t *testing.T) {
	s := newWebSession(t)
	s.run("backend set web one --weight 0")
	s.run("backend set web 192.168.1.12 --state down -o json")
	s.run("backend set 10.0.0.1:80/tcp 192.168.1.12:8080 --name second --state up -o yaml")

	s.run("backend set web one")
	s.run("backend set web three --weight 1")
	s.run("backend set nothing one --weight 1")
	s.run("backend set web one --weight 5000")
	s.run("backend set web one --weight heavy")
	s.run("backend set web one --state broken")
	s.run("backend set web one --name second")
	s.golden()
}
