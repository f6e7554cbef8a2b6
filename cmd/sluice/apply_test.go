package main

import "testing"

const manifest = `services:
  - name: web
    address: 10.0.0.1:80
    backends:
      - {name: one, address: 192.168.1.11, weight: 10}
      - {name: three, address: 192.168.1.13}
  - address: 10.0.0.2:443
`

func TestApply(t *testing.T) {
	s := newWebSession(t)
	s.file("services.yaml", manifest)
	s.run("apply -f $DIR/services.yaml --dry-run")
	s.run("apply -f $DIR/services.yaml --dry-run --exit-code")
	s.run("apply -f $DIR/services.yaml")
	s.run("apply -f $DIR/services.yaml --dry-run --exit-code --prune -o json")
	s.run("apply -f $DIR/services.yaml --prune -o yaml")
	s.run("apply -f $DIR/services.yaml --dry-run --exit-code")
	s.run("service list")
	s.golden()
}

func TestApplyStandardInput(t *testing.T) {
	s := newSession(t)
	s.stdin = `{"services": [{"name": "web", "address": "10.0.0.1:80"}]}`
	s.run("apply -f -")
	s.stdin = "services: [{name: Web, address: 10.0.0.1}]"
	s.run("apply -f -")
	s.run("apply -f -")
	s.golden()
}

func TestApplyWrong(t *testing.T) {
	s := newWebSession(t)
	s.file("weight.yaml", "services:\n- name: web\n  address: 10.0.0.1:80\n  backends:\n  - {address: 192.168.1.11, weight: 1200}\n")
	s.file("key.yaml", "services:\n- name: web\n  adress: 10.0.0.1:80\n")
	s.file("syntax.yaml", "services: [")
	s.run("apply -f $DIR/weight.yaml")
	s.run("apply -f $DIR/key.yaml")
	s.run("apply -f $DIR/syntax.yaml")
	s.run("apply -f $DIR/absent.yaml")
	s.run("apply")
	s.run("apply $DIR/weight.yaml")
	s.run("apply -f $DIR/weight.yaml --exit-code")
	s.run("export")
	s.golden()
}
