package p2c

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one goroutine at a time with the precision of the kernel's timers. Go's own are up to a millisecond late
// in a process that waits for nothing else, for it then sleeps in epoll_wait (runtime/netpoll_epoll.go), which counts
// milliseconds: a quarter of the time of an answer.
type alarm struct{ timer *os.File }

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return alarm{}, os.NewSyscallError("timerfd_create", err)
	}
	return alarm{os.NewFile(uintptr(fd), "timer")}, nil
}

// sleep waits, or fails when the alarm is closed meanwhile.
func (a alarm) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	control, err := a.timer.SyscallConn()
	if err != nil {
		return err
	}
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	var failed error
	if err := control.Control(func(fd uintptr) { failed = unix.TimerfdSettime(int(fd), 0, &once, nil) }); err != nil {
		return err
	}
	if failed != nil {
		return os.NewSyscallError("timerfd_settime", failed)
	}
	var expirations [8]byte
	_, err = a.timer.Read(expirations[:])
	return err
}

// Close frees the timer and wakes who sleeps.
func (a alarm) Close() error { return a.timer.Close() }
