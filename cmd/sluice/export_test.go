package main

import (
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	s := newWebSession(t)
	s.run("export")
	s.run("export -o json")
	s.run("export -o table")
	s.golden()
}

// What export prints, in either format, changes nothing when it is applied, and brings back what is gone.
func TestExportIsAManifest(t *testing.T) {
	for _, format := range []string{"yaml", "json"} {
		t.Run(format, func(t *testing.T) {
			s := newWebSession(t)
			s.run("backend set web two --state down --name 192.168.1.12")
			exported := s.run("export -o " + format)
			s.stdin = exported
			if out := s.run("apply --prune -f -"); out != "nothing to change\n" {
				t.Error(out)
			}
			s.stdin = "services: []"
			s.run("apply --prune -f -")
			s.stdin = exported
			s.run("apply -f -")
			if again := s.run("export -o " + format); again != exported {
				t.Errorf("exported, removed, applied and exported:\n%s\nwas:\n%s", again, exported)
			}
			if text := s.transcript.String(); strings.Contains(text, "exit code") {
				t.Error(text)
			}
		})
	}
}
