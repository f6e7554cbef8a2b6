package throughput

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/test/stage"
)

// ClientCommand is the command of the sluice program that calls RunClient with its arguments.
const ClientCommand = "bench-http-client"

const (
	// warmUp is how long requests are made before they count.
	warmUp = 500 * time.Millisecond
	// answerWithin is how long after the end an answer may take; a SYN that was lost is sent again after 1 s.
	answerWithin = 5 * time.Second
)

// Sample is one measurement of a workload.
type Sample struct {
	Requests int64   `json:"requests"`          // answered
	Failed   int64   `json:"failed"`            // not answered as they must be, of these and of those before and after
	Problem  string  `json:"problem,omitempty"` // of the first that failed
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu"`     // seconds of all processors together, of everything on the machine
	SoftIRQ  float64 `json:"softirq"` // of these, in software interrupts
}

// RunClient makes the requests of a workload to a target from the network namespace that it is in, and writes a Sample
// of so many seconds as JSON.
func RunClient(ctx context.Context, w io.Writer, workload Workload, target string, duration time.Duration) error {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	load, known := workloads[workload]
	if !known {
		return fmt.Errorf("%q is no workload", workload)
	}
	c := &client{load: load, to: to}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var sample Sample
	measured := make(chan error, 1)
	go func() {
		defer stop()
		var err error
		sample, err = c.measure(ctx, duration)
		measured <- err
	}()
	if err := errors.Join(onThreads(ctx, c.run), <-measured); err != nil {
		return err
	}
	sample.Failed = c.failed.Load()
	if c.problem != nil {
		sample.Problem = c.problem.Error()
	}
	return json.NewEncoder(w).Encode(sample)
}

// client is what the threads share.
type client struct {
	load load
	to   netip.AddrPort

	answered, failed atomic.Int64
	once             sync.Once
	problem          error // the first
}

// measure looks at what is answered between two moments.
func (c *client) measure(ctx context.Context, duration time.Duration) (Sample, error) {
	if err := stage.Sleep(ctx, warmUp); err != nil {
		return Sample{}, err
	}
	before := c.answered.Load()
	sample, err := observe(ctx, duration)
	sample.Requests = c.answered.Load() - before
	return sample, err
}

// clientThread is one thread with its part of the connections.
type clientThread struct {
	*client
	poller  *poller
	to      unix.SockaddrInet4 // which unix.Connect writes to
	conns   map[int]*clientConn
	request []byte
	answer  []byte // what every answer begins with
	buffer  [maxBuffer]byte
}

// clientConn is a connection with one request at a time.
type clientConn struct {
	asked    bool
	received int // bytes of the answer
}

// run keeps connections busy until ctx ends, and then waits for the answers.
func (c *client) run(ctx context.Context, number, of int) error {
	p, err := newPoller()
	if err != nil {
		return err
	}
	defer p.close()
	t := &clientThread{client: c, poller: p, conns: make(map[int]*clientConn)}
	t.to = unix.SockaddrInet4{Port: int(c.to.Port()), Addr: c.to.Addr().As4()}
	t.request, t.answer = []byte(request(c.load.size, c.load.last)), []byte(answer(c.load.size, c.load.last))
	for range (c.load.connections + number) / of {
		if err := t.open(); err != nil {
			return err
		}
	}
	var deadline time.Time
	for len(t.conns) > 0 {
		events, err := p.wait(pollPeriod)
		if err != nil {
			return err
		}
		ending := ctx.Err() != nil
		if ending && deadline.IsZero() {
			deadline = time.Now().Add(answerWithin)
		}
		for _, event := range events {
			if err := t.handle(event, ending); err != nil {
				return err
			}
		}
		if ending && time.Now().After(deadline) {
			t.fail(fmt.Errorf("no answer within %v", answerWithin), len(t.conns))
			return nil
		}
	}
	return nil
}

// open begins a connection. Its events are told once: when it is there, when something comes, and when the other side
// has closed it.
func (t *clientThread) open() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &t.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	t.conns[fd] = new(clientConn)
	return t.poller.watch(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET&0xffffffff)
}

// handle goes on with a connection, and replaces it when it is over, unless all are ending.
func (t *clientThread) handle(event unix.EpollEvent, ending bool) error {
	fd := int(event.Fd)
	over, err := t.step(fd, event.Events, ending)
	if err != nil {
		t.fail(err, 1)
	}
	if err == nil && !over {
		return nil
	}
	delete(t.conns, fd)
	_ = unix.Close(fd)
	if ending {
		return nil
	}
	return t.open()
}

// step says whether the connection is over, and why when it should not be.
func (t *clientThread) step(fd int, events uint32, ending bool) (over bool, err error) {
	c := t.conns[fd]
	if events&unix.EPOLLERR != 0 {
		return true, failure(fd)
	}
	if !c.asked {
		if events&unix.EPOLLOUT == 0 {
			return false, nil
		}
		if err := t.ask(fd); err != nil {
			return true, err
		}
		c.asked = true
	}
	if events&unix.EPOLLIN == 0 {
		return false, nil
	}
	closed, err := t.receive(fd, c, events&unix.EPOLLRDHUP != 0)
	if err != nil {
		return true, err
	}
	complete := c.received == len(t.answer)+t.load.size
	switch {
	case closed && (!complete || !t.load.last):
		return true, fmt.Errorf("the server closed the connection after %d bytes of an answer", c.received)
	case closed, complete && !t.load.last && ending:
		t.answered.Add(1)
		return true, nil
	case complete && !t.load.last:
		t.answered.Add(1)
		c.received = 0
		return false, t.ask(fd)
	}
	return false, nil
}

// ask sends a request. There is always room for one.
func (t *clientThread) ask(fd int) error {
	n, err := unix.Write(fd, t.request)
	if err == nil && n < len(t.request) {
		err = io.ErrShortWrite
	}
	return os.NewSyscallError("write", err)
}

// receive reads what there is, and compares the beginning of the answer. It says whether the other side has closed
// the connection, which costs a further look only when it may have.
func (t *clientThread) receive(fd int, c *clientConn, mayBeClosed bool) (closed bool, err error) {
	for {
		n, err := unix.Read(fd, t.buffer[:])
		if again(err) {
			return false, nil
		}
		if err != nil {
			return false, os.NewSyscallError("read", err)
		}
		if n == 0 {
			return true, nil
		}
		if c.received < len(t.answer) {
			expected := t.answer[c.received:]
			expected = expected[:min(n, len(expected))]
			if got := t.buffer[:len(expected)]; string(got) != string(expected) {
				return false, fmt.Errorf("the answer has %q in the place of %q", got, expected)
			}
		}
		if c.received += n; c.received > len(t.answer)+t.load.size {
			return false, fmt.Errorf("the answer is longer than %d bytes", t.load.size)
		}
		if n < len(t.buffer) && !mayBeClosed {
			return false, nil
		}
	}
}

// fail counts requests that failed.
func (t *clientThread) fail(err error, count int) {
	t.failed.Add(int64(count))
	t.once.Do(func() { t.problem = err })
}
