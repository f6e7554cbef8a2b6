package main

import (
	"strings"
	"testing"
)

// Help is for people, but its synopses are a promise.
func TestHelp(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("help")
	s.run("service")
	s.run("help service add")
	s.run("status --help")
	s.run("help exit-codes")
	s.run("help nothing")
	s.run("help service nothing")
	s.golden()
}

func TestWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	for _, line := range []string{
		"nothing",
		"statsu",
		"statsu --watch",
		"service lst",
		"service lst --output json",
		"backend drian web one",
		"--nothing",
		"status --nothing",
		"status -x",
		"status extra",
		"status -o",
		"status -o xml",
		"service show",
		"service show web dns",
		"backend set web",
		"--socket",
	} {
		s.run(line)
	}
	s.golden()
}

// Every command that asks the daemon says where it looked, and how to start it.
func TestWithoutDaemon(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("services.yaml", "services: []")
	for _, line := range []string{
		"service add web 10.0.0.1:80",
		"service list",
		"service show web",
		"service set web --mode l2",
		"service remove web",
		"backend add web 192.168.1.11",
		"backend list web",
		"backend set web one --weight 1",
		"backend drain web one",
		"backend remove web one",
		"apply -f $DIR/services.yaml",
		"export",
		"status",
		"status --watch",
		"log-level",
		"log-level debug",
		"history show web",
		"history import $DIR/services.yaml --service web",
		"history export web",
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect +40%",
		"event list",
		"event remove web sale",
	} {
		s.run(line)
	}
	s.golden()
}

func TestSocketFromEnvironment(t *testing.T) {
	s := newSession(t)
	t.Setenv("SLUICE_SOCKET", s.socket)
	s.runWith(&cli{}, "log-level", []string{"log-level"})
	t.Setenv("SLUICE_SOCKET", s.socket+".nothing")
	s.runWith(&cli{}, "log-level", []string{"log-level"})
	s.golden()
}

// Colours are for terminals, unless the user does not want them there either.
func TestColor(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s := newWebSession(t)
	for _, c := range []struct {
		noColor  string
		terminal bool
		flag     string
		want     bool
	}{
		{want: true, terminal: true},
		{want: false, terminal: false},
		{want: false, terminal: true, noColor: "1"},
		{want: false, terminal: true, flag: "--no-color"},
	} {
		t.Setenv("NO_COLOR", c.noColor)
		args := []string{"service", "list", "--socket", s.socket}
		if c.flag != "" {
			args = append(args, c.flag)
		}
		out := s.runWith(&cli{terminal: c.terminal}, "", args)
		if got := strings.Contains(out, "\x1b"); got != c.want {
			t.Errorf("%+v: colours: %v", c, got)
		}
	}
}
