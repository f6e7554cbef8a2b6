package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outputLimit bounds in bytes how much of the end of a command's output is kept.
	outputLimit = 1024
	// outputWait is how long a process that left the command's group, and was not killed with it, may delay the
	// result by keeping its output open.
	outputWait = 10 * time.Millisecond
)

func prepareExec(s Spec, _ netip.AddrPort) (exchange, *FieldError) {
	if strings.TrimSpace(s.Command) == "" {
		return nil, invalid("command", `give one, such as "/usr/lib/sluice/check $SLUICE_ADDRESS $SLUICE_PORT"`)
	}
	if strings.ContainsRune(s.Command, 0) {
		return nil, invalid("command", "it has a NUL byte, which no command can have")
	}
	return func(ctx context.Context, p *Prober) error { return execute(ctx, s.Command, p.to) }, nil
}

// execute runs a command. When it returns the command's process group is gone; a process that not even the kernel can
// kill, waiting for a dead disk, holds it up.
func execute(ctx context.Context, text string, to netip.AddrPort) error {
	if ctx.Err() != nil {
		return &Failure{"command", ctx.Err()}
	}
	var output tail
	command := exec.Command("/bin/sh", "-c", text)
	command.Env = append(os.Environ(), "SLUICE_ADDRESS="+to.Addr().String(), "SLUICE_PORT="+strconv.Itoa(int(to.Port())))
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = outputWait
	if err := command.Start(); err != nil {
		return &Failure{"command", err}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		awaitEnd(command.Process.Pid)
	}()
	late := false
	select {
	case <-ended:
	case <-ctx.Done():
		late = true
	}
	// Until Wait the number is the command's, though it may have ended: nobody else's group is killed.
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	<-ended
	err := command.Wait()
	switch {
	case late:
		return fmt.Errorf("the command did not end: %w", ctx.Err())
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	if line := output.lastLine(); line != "" {
		return fmt.Errorf("%s (%w)", line, err)
	}
	return fmt.Errorf("the command failed: %w", err)
}

// awaitEnd waits for the end of a child and leaves it to be waited for.
func awaitEnd(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// tail is a writer that keeps the end of what is written. os/exec writes from one goroutine.
type tail struct{ end []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.end = append(t.end, p...)
	if excess := len(t.end) - outputLimit; excess > 0 {
		t.end = append(t.end[:0], t.end[excess:]...)
	}
	return len(p), nil
}

// lastLine returns the last line that is not empty.
func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.end)
	line := text[bytes.LastIndexByte(text, '\n')+1:]
	return strings.ToValidUTF8(string(bytes.TrimSpace(line)), "?")
}
