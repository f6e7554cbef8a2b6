package throughput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/test/stage"
)

// ServerCommand is the command of the sluice program that calls RunServer.
const ServerCommand = "bench-http-server"

const (
	// pollPeriod is how often a thread looks whether it is to end; ms.
	pollPeriod = 100
	// maxRequest is more than any request has; bytes.
	maxRequest = 2048
	// maxBuffer is how much is read or written at once; bytes.
	maxBuffer = 256 << 10
	// backlog is more than there are connections at a time.
	backlog = 1024
)

// RunServer is a server in the network namespace that it is in, until ctx ends. It answers requests for so many bytes
// over HTTP/1.1, at the service's port of every address. When it is asked to close a connection, it does so first.
func RunServer(ctx context.Context) error {
	port, err := strconv.Atoi(stage.ServicePort)
	if err != nil {
		return err
	}
	return onThreads(ctx, func(ctx context.Context, _, _ int) error {
		s, err := listen(port)
		if err != nil {
			return err
		}
		defer s.poller.close()
		return s.run(ctx)
	})
}

// server is one thread, with a listener of its own.
type server struct {
	poller   *poller
	listener int
	conns    map[int]*serverConn
	out      [maxBuffer]byte // the header of an answer, and zeros
}

// serverConn is a connection that was accepted.
type serverConn struct {
	received string // of a request that is not complete yet
	header   string // of an answer, as far as it is not sent yet
	body     int    // bytes that are not sent yet
	last     bool   // the connection is to be closed after the answer
	blocked  bool   // waits for room to write
}

func listen(port int) (*server, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), // inherited
		unix.Bind(fd, &unix.SockaddrInet4{Port: port}),
		unix.Listen(fd, backlog),
	)
	if err != nil {
		return nil, fmt.Errorf("listening on port %d: %w", port, err)
	}
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &server{poller: p, listener: fd, conns: make(map[int]*serverConn)}, p.watch(fd, unix.EPOLLIN)
}

func (s *server) run(ctx context.Context) error {
	for ctx.Err() == nil {
		events, err := s.poller.wait(pollPeriod)
		if err != nil {
			return err
		}
		for _, event := range events {
			fd := int(event.Fd)
			if fd == s.listener {
				if err := s.accept(); err != nil {
					return err
				}
			} else if !s.serve(fd) {
				delete(s.conns, fd)
				_ = unix.Close(fd)
			}
		}
	}
	return nil
}

// accept takes one connection.
func (s *server) accept() error {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if again(err) || errors.Is(err, unix.ECONNABORTED) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("accept4", err)
	}
	s.conns[fd] = new(serverConn)
	return s.poller.watch(fd, unix.EPOLLIN)
}

// serve reads and writes what it can without waiting. It returns false when the connection is over.
func (s *server) serve(fd int) bool {
	c := s.conns[fd]
	if c.header == "" && c.body == 0 && !s.receive(fd, c) {
		return false
	}
	sent, err := s.send(fd, c)
	if err != nil || sent && c.last {
		return false
	}
	if c.blocked != sent {
		return true
	}
	c.blocked = !sent
	events := uint32(unix.EPOLLIN)
	if c.blocked {
		events = unix.EPOLLOUT
	}
	return s.poller.rewatch(fd, events) == nil
}

// receive reads, and prepares the answer to a request that is complete. It returns false when the connection is over,
// and for what is no request.
func (s *server) receive(fd int, c *serverConn) bool {
	var buffer [maxRequest]byte
	n, err := unix.Read(fd, buffer[:])
	if again(err) {
		return true
	}
	if err != nil || n == 0 || len(c.received)+n > maxRequest {
		return false
	}
	c.received += string(buffer[:n])
	if !strings.HasSuffix(c.received, "\r\n\r\n") {
		return true
	}
	size, last, ok := parseRequest(c.received)
	c.received, c.header, c.body, c.last = "", answer(size, last), size, last
	return ok
}

// send goes on with an answer and says whether nothing is left of it.
func (s *server) send(fd int, c *serverConn) (bool, error) {
	for c.header != "" || c.body > 0 {
		header := copy(s.out[:], c.header)
		n, err := unix.Write(fd, s.out[:min(header+c.body, maxBuffer)])
		clear(s.out[:header])
		if again(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		of := min(n, header)
		c.header, c.body = c.header[of:], c.body-(n-of)
	}
	return true, nil
}
