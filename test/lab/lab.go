// Package lab builds small networks of namespaces on one machine: hosts, cables and switches, with real
// kernels' sockets, routes and neighbours. Integration tests and `sluice demo` run on them. It needs root
// and no other program; nothing that happens inside reaches the machine's own network.
package lab

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaces is where named network namespaces are, for us and for `ip netns`.
const namespaces = "/run/netns"

// labs counts the labs of this process, so that two may have hosts with the same names.
var labs atomic.Uint32

// Lab is a network of its own. Its methods are safe for concurrent use.
type Lab struct {
	prefix   string // of the namespaces' names
	launcher *launcher

	mu        sync.Mutex
	hosts     []*Host
	processes []*Process
	closed    bool
}

// New makes an empty lab. Its namespaces are called PREFIX-PID-N-HOST; those with the same prefix that
// belonged to a process which is gone are removed first. Close must be called in the end.
func New(prefix string) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root: run this with sudo")
	}
	serial := labs.Add(1)
	if err := removeLeftovers(prefix, serial == 1); err != nil {
		return nil, err
	}
	return &Lab{prefix: fmt.Sprintf("%s-%d-%d-", prefix, os.Getpid(), serial), launcher: newLauncher()}, nil
}

// removeLeftovers removes the namespaces of labs whose process is gone, or had the number that is ours now.
func removeLeftovers(prefix string, ours bool) error {
	entries, err := os.ReadDir(namespaces)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for namespaces that were left over: %w", err)
	}
	pattern := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + `-(\d+)-\d+-`)
	for _, entry := range entries {
		match := pattern.FindStringSubmatch(entry.Name())
		if match == nil {
			continue
		}
		pid, err := strconv.Atoi(match[1])
		if err != nil {
			continue
		}
		gone := errors.Is(unix.Kill(pid, 0), unix.ESRCH)
		if gone || ours && pid == os.Getpid() {
			if err := removeNamespace(entry.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeNamespace removes the name; the namespace ends with its last process and socket. It is no error
// when somebody else did so meanwhile.
func removeNamespace(name string) error {
	err := netns.DeleteNamed(name)
	if errors.Is(err, unix.EINVAL) { // not mounted: only the file was made
		err = os.Remove(namespaces + "/" + name)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the namespace %s: %w", name, err)
	}
	return nil
}

// Close kills the processes and removes the namespaces. It may be called more than once.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for _, p := range l.processes {
		p.Kill()
	}
	for _, p := range l.processes {
		<-p.Done()
	}
	l.launcher.close()
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}
