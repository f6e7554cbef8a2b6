package failover

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/test/lab"
)

// favour has a process run as soon as it can, before everything that is not favoured. A nice value does not do that: among
// processes that are busy, Linux's fair scheduler has one of -20 wait for tens of milliseconds.
func favour(p *lab.Process) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.PID()))
	for _, thread := range threads { // later ones follow those that begin them
		number, _ := strconv.Atoi(filepath.Base(thread))
		if failed := favourThread(number); failed != nil && !errors.Is(failed, unix.ESRCH) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// favourThread favours one thread, 0 is the present one: with the lowest of the priorities that are above all others, sched(7).
func favourThread(number int) error {
	return unix.SchedSetAttr(number, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
}

// favourBackends favours the processes of the backends. They stand for other hosts, which do not share the balancer's load.
func (s *site) favourBackends() (err error) {
	for _, b := range s.backends {
		err = errors.Join(err, favour(b.process))
	}
	return err
}
