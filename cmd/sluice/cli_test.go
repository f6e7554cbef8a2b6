package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

// session is a user at a shell. What he types and what he sees becomes a transcript.
type session struct {
	t          *testing.T
	dir        string // of the session's own
	socket     string
	stdin      string // of the next command
	transcript strings.Builder
}

// newSession returns one whose daemon has no services yet.
func newSession(t *testing.T) *session {
	s := sessionWithoutDaemon(t)
	serveAPI(t, s.socket)
	return s
}

func sessionWithoutDaemon(t *testing.T) *session {
	t.Setenv("NO_COLOR", "")
	t.Setenv("SLUICE_SOCKET", "")
	dir := t.TempDir()
	return &session{t: t, dir: dir, socket: filepath.Join(dir, "sluice.sock")}
}

// newWebSession returns one whose daemon has the services web and dns.
func newWebSession(t *testing.T) *session {
	s := newSession(t)
	manifest, err := control.ParseManifest("web", []byte(`{services: [
		{name: web, address: "10.0.0.1:80", backends: [
			{name: one, address: 192.168.1.11}, {name: two, address: "192.168.1.12:8080", weight: 50}]},
		{name: dns, address: "[2001:db8::53]:53", protocol: udp, mode: l2, backends: [{address: "2001:db8::11"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.NewClient(s.socket).Apply(t.Context(), control.ApplyRequest{Services: manifest.Services}); err != nil {
		t.Fatal(err)
	}
	return s
}

// file makes a file in the session's folder, which command lines call $DIR.
func (s *session) file(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs one command line, whose words are separated by blanks, and returns the standard output.
func (s *session) run(line string) string {
	s.t.Helper()
	args := append([]string{"--socket", s.socket}, strings.Fields(strings.ReplaceAll(line, "$DIR", s.dir))...)
	return s.runWith(&cli{}, line, args)
}

// runWith runs a command line that the transcript calls line.
func (s *session) runWith(c *cli, line string, args []string) string {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	c.stdin, c.stdout, c.stderr = strings.NewReader(s.stdin), &stdout, &stderr
	s.stdin = ""
	code := c.run(s.t.Context(), args)
	s.note("$ sluice " + line + "\n" + stdout.String())
	for line := range strings.Lines(stderr.String()) {
		s.note("2> " + line)
	}
	if code != 0 {
		s.note(fmt.Sprintf("exit code %d\n", code))
	}
	s.note("\n")
	return stdout.String()
}

func (s *session) note(text string) { s.transcript.WriteString(text) }

// What differs from run to run.
var (
	goVersion = regexp.MustCompile(`go1[^"\s,]+`)
	platform  = regexp.MustCompile(`linux/[a-z0-9]+`)
	eventTime = regexp.MustCompile(`(?m)^[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}\.[0-9]{3}|[0-9-]{10}T[0-9:]{8}[0-9.]*(Z|[+-][0-9:]{5})|^[0-9-]{10} [0-9:]{5}\b`)
)

// golden compares the transcript with the test's file in testdata.
func (s *session) golden() {
	s.t.Helper()
	text := strings.ReplaceAll(s.transcript.String(), s.dir, "$DIR")
	text = platform.ReplaceAllString(goVersion.ReplaceAllString(text, "go1.x"), "linux/arch")
	text = eventTime.ReplaceAllString(text, "TIME")
	golden(s.t, text)
}

func golden(t *testing.T, got string) {
	t.Helper()
	path := filepath.Join("testdata", t.Name()+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test ./cmd/sluice -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), -update takes it over:\n%s", path, diff)
	}
}
