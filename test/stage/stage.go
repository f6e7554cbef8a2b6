// Package stage is what programs share that build a whole Sluice up on one machine, with the real daemon, and leave
// nothing behind: `sluice demo` and `sluice bench`.
package stage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
)

// ErrLeftovers means that something could not be removed in the end; the message says what.
var ErrLeftovers = errors.New("the benchmark left something behind")

// Remove is to be deferred: it removes what a benchmark has made, and adds to the error that the benchmark returns what
// could not be removed, as ErrLeftovers.
func Remove(err *error, remove func() error) {
	if left := remove(); left != nil {
		*err = errors.Join(*err, fmt.Errorf("%w: %w", ErrLeftovers, left))
	}
}

// pinRoot is the BPF file system.
const pinRoot = "/sys/fs/bpf/"

// Stage is a lab, a folder for files, and the daemon when it was started.
type Stage struct {
	*lab.Lab
	Folder string            // of configuration, store and sockets
	Pins   string            // of the daemon
	Limits dataplane.Limits  // of the daemon
	Mode   dataplane.XDPMode // of the daemon
	Config string            // more lines of the daemon's configuration
	Flags  []string          // of the daemon, more
	Daemon *lab.Process      // nil before StartDaemon
	Client *control.Client   // of the daemon

	decaps []string      // pins of what takes outer headers off
	ready  chan struct{} // the daemon's
}

// smallLimits are enough for a few services, and soon made.
var smallLimits = dataplane.Limits{Services: 64, Backends: 1024, Slots: 1 << 20, TableSlots: dataplane.DefaultLimits.TableSlots, Flows: 1 << 16}

// New makes an empty stage. What it makes outside its namespaces is named PREFIX-PID; what processes that are gone
// have left under the same prefix is removed first. Close must be called in the end.
func New(prefix string) (*Stage, error) {
	if err := removeLeftovers(prefix); err != nil {
		return nil, err
	}
	s := &Stage{Pins: fmt.Sprintf("%s%s-%d", pinRoot, prefix, os.Getpid()), Limits: smallLimits}
	var err error
	if s.Folder, err = os.MkdirTemp("", fmt.Sprintf("%s-%d-", prefix, os.Getpid())); err != nil {
		return nil, err
	}
	if s.Lab, err = lab.New(prefix); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// StartDaemon starts `sluice run` on a host, on the interfaces that are listed with commas. After StopDaemon it may be
// started again. Its metrics are on port 9433 of every address of the host.
func (s *Stage) StartDaemon(ctx context.Context, h *lab.Host, executable, interfaces string) error {
	socket, file := filepath.Join(s.Folder, "sluice.sock"), filepath.Join(s.Folder, "sluice.yaml")
	limits, err := json.Marshal(s.Limits) // which is YAML too
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`interfaces: [%s]
pin-path: %s
store: %s
api: {socket: %s}
metrics: {address: "0.0.0.0:9433"}
limits: %s
xdp-mode: %s
%s`, interfaces, s.Pins, filepath.Join(s.Folder, "sluice.db"), socket, limits, s.Mode, s.Config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	notify, err := s.listenReady()
	if err != nil {
		return err
	}
	daemon, err := h.CommandWith(ctx, []string{"NOTIFY_SOCKET=" + notify.LocalAddr().String()}, executable, append([]string{"run", "--config", file}, s.Flags...)...)
	if err != nil {
		return errors.Join(err, notify.Close())
	}
	s.Daemon, s.Client = daemon, control.NewClient(socket)
	go func() {
		<-daemon.Done()
		notify.Close()
	}()
	return nil
}

// listenReady makes the socket on which the daemon says that it serves (sd_notify(3)), and notes that it does.
func (s *Stage) listenReady() (*net.UnixConn, error) {
	name := filepath.Join(s.Folder, "notify.sock")
	_ = os.Remove(name) // of a daemon before
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{}, 1)
	s.ready = ready
	go func() {
		if _, err := conn.Read(make([]byte, 64)); err == nil {
			ready <- struct{}{}
		}
	}()
	return conn, nil
}

// Ready waits until the kernel is as the daemon was told before it started. Each start is told once.
func (s *Stage) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.Daemon.Done():
		return Ended(s.Daemon)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stopWithin is how long a daemon may take to end.
const stopWithin = 3 * time.Second

// StopDaemon ends the daemon; packets keep flowing. It returns whether the daemon ended in time.
func (s *Stage) StopDaemon() bool {
	s.Daemon.Signal(syscall.SIGTERM)
	select {
	case <-s.Daemon.Done():
		return true
	case <-time.After(stopWithin):
		return false
	}
}

// Apply makes the daemon's services these as soon as it answers, and waits until notReady, which is given the
// daemon's status, finds nothing missing.
func (s *Stage) Apply(ctx context.Context, services []control.Service, within time.Duration, notReady func(control.Status) error) error {
	applied := false
	return Await(ctx, within, s.Daemon, func(ctx context.Context) error {
		if !applied {
			_, err := s.Client.Apply(ctx, control.ApplyRequest{Services: services})
			if applied = err == nil; !applied {
				return err
			}
		}
		status, err := s.Client.Status(ctx)
		if err != nil {
			return err
		}
		return notReady(status)
	})
}

// Close ends the daemon and removes everything that was made.
func (s *Stage) Close() error {
	var errs []error
	if s.Daemon != nil {
		s.StopDaemon() // or else the lab kills it
	}
	if s.Lab != nil {
		errs = append(errs, s.Lab.Close())
	}
	for _, pins := range append(s.decaps, s.Pins) {
		errs = append(errs, dataplane.Unload(pins))
	}
	return errors.Join(append(errs, os.RemoveAll(s.Folder))...)
}

// Traces returns patterns for the files that a stage of the process with the number pid has, and none after it.
func Traces(prefix string, pid int) []string {
	return []string{
		fmt.Sprintf("%s%s-%d", pinRoot, prefix, pid),
		fmt.Sprintf("%s%s-%d-*", pinRoot, prefix, pid),
		fmt.Sprintf("/run/netns/%s-%d-*", prefix, pid),
		filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d-*", prefix, pid)),
	}
}

// removeLeftovers removes what stages that were killed have left, but for their namespaces: see lab.New.
func removeLeftovers(prefix string) error {
	for _, begin := range []string{pinRoot + prefix + "-", filepath.Join(os.TempDir(), prefix+"-")} {
		folders, err := filepath.Glob(begin + "*")
		if err != nil {
			return err
		}
		for _, folder := range folders {
			number, _, _ := strings.Cut(strings.TrimPrefix(folder, begin), "-")
			pid, err := strconv.Atoi(number)
			if err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				continue
			}
			remove := os.RemoveAll
			if strings.HasPrefix(folder, pinRoot) {
				remove = dataplane.Unload // detaches the programs too
			}
			if err := remove(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckPrivileges says what is missing before anything is half made. What needs them, such as "the demo", and its
// command line are for the error.
func CheckPrivileges(what, command string) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("reading this process's capabilities: %w", err)
	}
	var missing []string
	for _, needed := range []struct {
		name string
		bit  int
	}{{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_BPF", unix.CAP_BPF}} {
		if sets[needed.bit/32].Effective&(1<<(needed.bit%32)) == 0 {
			missing = append(missing, needed.name)
		}
	}
	if os.Geteuid() != 0 || len(missing) > 0 {
		return fmt.Errorf("%s makes network namespaces and loads XDP programs, which takes root with all capabilities (missing here: %s); try: sudo %s",
			what, cmp.Or(strings.Join(missing, ", "), "user 0"), command)
	}
	return nil
}
