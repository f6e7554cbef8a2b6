package main

import (
	"strings"
	"testing"
)

func TestCompletionScripts(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for shell, mark := range map[string]string{
		"bash": "complete -o default -F __start_sluice sluice",
		"zsh":  "#compdef sluice",
		"fish": "complete -c sluice",
	} {
		if out := s.run("completion " + shell); !strings.Contains(out, mark) {
			t.Errorf("the script for %s lacks %q:\n%s", shell, mark, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	s := newWebSession(t)
	for _, line := range []string{
		"service show ",
		"service show web ",
		"service add ",
		"backend set ",
		"backend set web ",
		"backend set web one ",
		"backend set nothing ",
		"backend set web one --state ",
		"backend add web ",
		"service set --mode ",
		"status -o ",
		"export -o ",
		"log-level ",
		"history import x --service ",
		"history export web -o ",
		"event remove web ",
		"event add --every ",
		"completion ",
		"help ser",
		"help service ",
	} {
		words := append([]string{"__complete", "--socket", s.socket}, strings.Split(line, " ")...)
		s.runWith(&cli{}, "__complete "+line+"''", words)
	}
	s.run("completion powershell")
	s.run("completion")
	s.golden()
}

// A shell is not kept waiting, nor shown an error.
func TestCompletionWithoutDaemon(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.runWith(&cli{}, "__complete backend set web ''", []string{"__complete", "--socket", s.socket, "backend", "set", "web", ""})
	s.golden()
}
