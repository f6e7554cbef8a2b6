package p2c

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/traffic"
)

// worker is the traffic.Listener of a server that serves one connection at a time and takes a random time for each
// answer, without using the processor. Further connections wait in the kernel's queue, in their order.
type worker struct {
	traffic.Listener
	mean   time.Duration // of an answer; exponentially distributed
	random *rand.Rand
}

// Listen is that of the Listener. Only one listener may use the worker.
func (w *worker) Listen(network, address string) (net.Listener, error) {
	listener, err := w.Listener.Listen(network, address)
	if err != nil {
		return nil, err
	}
	pause, err := newAlarm()
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &workerListener{listener, w, pause, make(chan struct{}, 1)}, nil
}

type workerListener struct {
	net.Listener
	worker *worker
	pause  alarm
	busy   chan struct{} // full while there is a connection
}

// Close cuts answers short, too.
func (l *workerListener) Close() error { return errors.Join(l.Listener.Close(), l.pause.Close()) }

// Accept waits until the connection before is closed.
func (l *workerListener) Accept() (net.Conn, error) {
	l.busy <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.busy
		return nil, err
	}
	takes := time.Duration(l.worker.random.ExpFloat64() * float64(l.worker.mean))
	return &workerConn{Conn: conn, takes: takes, pause: l.pause, leave: sync.OnceFunc(func() { <-l.busy })}, nil
}

type workerConn struct {
	net.Conn
	takes time.Duration
	pause alarm
	leave func()
}

// Write takes its time before: an answer is one call.
func (c *workerConn) Write(answer []byte) (int, error) {
	if err := c.pause.sleep(c.takes); err != nil {
		return 0, err
	}
	return c.Conn.Write(answer)
}

// Close lets the next one come.
func (c *workerConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
