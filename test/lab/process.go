package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs on a host. Its methods are safe for concurrent use.
type Process struct {
	command *exec.Cmd
	output  output
	done    chan struct{}
	err     error // of its end, valid when done is closed
}

// Command starts a program on the host, with the machine's files and this process's environment. It is
// killed when ctx ends, when the lab is closed, and when this process ends in whatever way.
func (h *Host) Command(ctx context.Context, name string, args ...string) (*Process, error) {
	return h.CommandWith(ctx, nil, name, args...)
}

// CommandWith is Command with more variables in the environment, each "NAME=VALUE".
func (h *Host) CommandWith(ctx context.Context, environment []string, name string, args ...string) (*Process, error) {
	p := &Process{command: exec.CommandContext(ctx, name, args...), done: make(chan struct{})}
	p.command.Env = append(os.Environ(), environment...)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.WaitDelay = time.Second // for children of the program that keep its output open
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if h.lab.closed {
		return nil, errors.New("the lab is closed")
	}
	if err := h.lab.launcher.run(func() error { return h.Do(p.command.Start) }); err != nil {
		return nil, fmt.Errorf("starting %s on %s: %w", name, h.name, err)
	}
	h.lab.processes = append(h.lab.processes, p)
	go func() {
		p.err = p.command.Wait()
		close(p.done)
	}()
	return p, nil
}

// Signal sends a signal. It is no error when the process has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.command.Process.Signal(s) }

// Kill ends the process at once; see Wait and Done for its end.
func (p *Process) Kill() { p.Signal(syscall.SIGKILL) }

// Stop freezes the process: its connections stay and it answers nothing.
func (p *Process) Stop() { p.Signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (p *Process) Continue() { p.Signal(syscall.SIGCONT) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and returns nil for exit code 0, otherwise an *exec.ExitError.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Name returns the name of the program, without its folder.
func (p *Process) Name() string { return filepath.Base(p.command.Path) }

// PID returns the number of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Output returns what the process has written to standard output and standard error until now.
func (p *Process) Output() string { return p.output.String() }

// output is a bytes.Buffer for several goroutines.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// launcher is the thread that every process of a lab is a child of: the kernel sends Pdeathsig when the
// thread that forked ends (prctl(2), PR_SET_PDEATHSIG), not when the process does.
type launcher struct {
	work  chan func() error
	errs  chan error
	ended chan struct{}
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func() error), errs: make(chan error), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		runtime.LockOSThread()
		for f := range l.work {
			l.errs <- f()
		}
	}()
	return l
}

// run runs a function on the thread. The caller serializes.
func (l *launcher) run(f func() error) error {
	l.work <- f
	return <-l.errs
}

func (l *launcher) close() {
	close(l.work)
	<-l.ended
}
