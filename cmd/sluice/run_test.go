package main

import "testing"

// The daemon itself is tested in package control and in test/; here only what happens before it starts.
func TestRunCheck(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("good.yaml", "interfaces: [eth0]\n")
	s.file("key.yaml", "interfaces: [eth0]\nlimits:\n  flow: 5\n")
	s.file("type.yaml", "interfaces: eth0\n")
	s.file("value.yaml", "interfaces: [absent0]\nlimits: {backends: 1048576}\n")
	s.run("run --check --config $DIR/good.yaml")
	s.run("run --check --config $DIR/key.yaml")
	s.run("run --config $DIR/type.yaml")
	s.run("run --config $DIR/value.yaml")
	s.run("run --config $DIR/absent.yaml")
	s.run("run $DIR/good.yaml")
	s.golden()
}
