package probe

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var anywhere = netip.MustParseAddrPort("[2001:db8::1]:8080")

func TestExec(t *testing.T) {
	succeeds(t, Spec{Kind: Exec, Command: "true"}, anywhere)
	succeeds(t, Spec{Kind: Exec, Command: `test "$SLUICE_ADDRESS $SLUICE_PORT" = "2001:db8::1 8080"`}, anywhere)
	fails(t, Spec{Kind: Exec, Command: "exit 3"}, anywhere, "the command failed: exit status 3")
	fails(t, Spec{Kind: Exec, Command: "echo one; echo two >&2; echo; exit 3"}, anywhere, "two (exit status 3)")
	fails(t, Spec{Kind: Exec, Command: "kill -9 $$"}, anywhere, "signal: killed")
	fails(t, Spec{Kind: Exec, Command: "/no/such/command"}, anywhere, "not found (exit status 127)")
	err := probe(t, Spec{Kind: Exec, Command: "exit 3"}, anywhere)
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want one that wraps the exit code", err)
	}
}

func TestExecWithMuchOutput(t *testing.T) {
	fails(t, Spec{Kind: Exec, Command: "seq 100000; echo the end; exit 1"}, anywhere, "the end (exit status 1)")
	err := probe(t, Spec{Kind: Exec, Command: `head -c 100000 /dev/zero | tr '\0' x; exit 1`}, anywhere)
	if err == nil || len(err.Error()) > 2*outputLimit {
		t.Errorf("got an error of %d bytes", len(err.Error()))
	}
}

// process returns the number that a command has written, when it has.
func process(t *testing.T, file string) int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(file)
		if pid, err2 := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && err2 == nil {
			return pid
		}
	}
	t.Fatal("the command has not begun")
	return 0
}

// gone waits until a process is: killed ones that lost their parent are waited for by somebody else.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d is there: %s", pid, stat)
		}
	}
}

func TestExecIsKilledAtTheDeadline(t *testing.T) {
	err := probeWithin(t, 50*time.Millisecond, Spec{Kind: Exec, Command: `trap "" TERM; while :; do sleep 1000; done`}, anywhere)
	if err == nil || err.Error() != "the command did not end: context deadline exceeded" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestExecIsKilledWithItsChildren(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	spec := Spec{Kind: Exec, Command: `trap "" TERM INT HUP; sleep 1000 & echo $! > ` + file + `; while :; do wait; done`}
	p, err := New(spec, anywhere, Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- p.Probe(ctx) }()
	child := process(t, file)
	cancel()
	if err := <-result; err != context.Canceled {
		t.Errorf("got %v", err)
	}
	gone(t, child)
}

func TestExecThatEndsLeavesNoChildren(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	succeeds(t, Spec{Kind: Exec, Command: "sleep 1000 & echo $! > " + file}, anywhere)
	gone(t, process(t, file))
}

// A child with a session of its own is not killed, but keeps nobody waiting either.
func TestExecIsNotHeldUpByADaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	spec := Spec{Kind: Exec, Command: "setsid sh -c 'echo $$ > " + file + "; exec sleep 1000' & while ! test -s " + file + "; do :; done"}
	succeeds(t, spec, anywhere)
	pid := process(t, file)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon is gone: %v", err)
	}
	gone(t, pid)
}
