package throughput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// poller waits for many sockets on one thread: client and servers are to cost little beside what is between them, and
// each socket of package net costs its goroutine, its timers and twice the system calls.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd}, nil
}

// watch reports events of a socket from now on, until it is closed.
func (p *poller) watch(socket int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(socket)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, socket, &event))
}

// rewatch changes which.
func (p *poller) rewatch(socket int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(socket)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, socket, &event))
}

// wait returns what has happened, after so many milliseconds at the latest. The result is valid until the next call.
func (p *poller) wait(timeout int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], timeout)
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("epoll_wait", err)
	}
	return p.events[:n], nil
}

func (p *poller) close() { _ = unix.Close(p.fd) }

// onThreads runs a function on one thread for each processor, until the first fails or all are done.
func onThreads(ctx context.Context, f func(ctx context.Context, number, of int) error) error {
	threads := runtime.NumCPU()
	runtime.GOMAXPROCS(threads + 1) // one that waits in the kernel finds its place free afterwards
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, threads)
	var running sync.WaitGroup
	for number := range threads {
		running.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if errs[number] = f(ctx, number, threads); errs[number] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// again says that a socket has no more for now.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// failure is the pending error of a socket.
func failure(socket int) error {
	number, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && number != 0 {
		err = unix.Errno(number)
	}
	if err != nil {
		return fmt.Errorf("the connection failed: %w", err)
	}
	return nil
}
