package failover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicelb/sluice/test/traffic"
)

// BackendCommand is the command of the sluice program that calls RunBackend with its arguments.
const BackendCommand = "bench-server"

// How long a backend takes for an answer, to probes too.
const (
	usualDelay = 2 * time.Millisecond
	slowDelay  = 10 * usualDelay
)

// behaviour is what a backend can be told to do.
type behaviour string

const (
	serveWell  behaviour = "serve"
	serveSlow  behaviour = "serve slowly"
	resetPeers behaviour = "reset" // its connections, and refuse new ones
)

// server is the process behind one backend.
type server struct {
	name    string
	gate    gate
	traffic *traffic.Server // nil while resetting
}

// RunBackend is a backend with a name that serves HTTP in the network namespace that it is in until ctx ends. On the Unix socket it is told how to behave, a word on a line, and answers with an empty line, or with
// one that says what is wrong.
func RunBackend(ctx context.Context, name, socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return err
	}
	orders, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = orders.Close() })()
	if err := newServer(name, traffic.Here{}).run(orders); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func newServer(name string, here traffic.Listener) *server {
	return &server{name: name, gate: gate{Listener: here, open: make(map[*gatedConn]struct{})}}
}

// run does what it is told until there is nobody any more to tell it.
func (s *server) run(orders net.Listener) error {
	defer s.reset()
	for {
		conn, err := orders.Accept()
		if err != nil {
			return err
		}
		s.obey(conn)
	}
}

// obey does what one connection to the socket says.
func (s *server) obey(conn net.Conn) {
	defer conn.Close()
	order, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	problem := ""
	if err := s.behave(behaviour(strings.TrimSpace(order))); err != nil {
		problem = err.Error()
	}
	_, _ = fmt.Fprintln(conn, problem)
}

func (s *server) behave(how behaviour) error {
	switch how {
	case resetPeers:
		s.reset()
		return nil
	case serveSlow:
		s.gate.delay.Store(int64(slowDelay))
	default:
		s.gate.delay.Store(int64(usualDelay))
	}
	if s.traffic != nil {
		return nil
	}
	s.gate.resets.Store(false)
	var err error
	// Of all addresses: of its own, which probes may ask, and in some modes of the service's.
	s.traffic, err = traffic.Serve(&s.gate, s.name, traffic.Endpoints{HTTP: "0.0.0.0:" + servicePort})
	return err
}

// reset leaves nothing of the server: the kernel answers every further packet with a RST.
func (s *server) reset() {
	if s.traffic == nil {
		return
	}
	s.gate.reset()
	s.traffic.Close()
	s.traffic = nil
}

// gate is the traffic.Listener of a server, whose answers wait for the delay.
type gate struct {
	traffic.Listener
	delay  atomic.Int64 // ns
	resets atomic.Bool  // connections, when they are closed

	mu   sync.Mutex
	open map[*gatedConn]struct{}
}

// Listen has what is accepted pass the gate.
func (g *gate) Listen(network, address string) (net.Listener, error) {
	listener, err := g.Listener.Listen(network, address)
	return &gatedListener{listener, g}, err
}

// reset has the connections end with a RST when they are closed, which is to be done next.
func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resets.Store(true)
	for conn := range g.open {
		_ = conn.SetLinger(0)
	}
}

type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept is that of a net.TCPListener.
func (l *gatedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &gatedConn{accepted.(*net.TCPConn), l.gate}
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	l.gate.open[conn] = struct{}{}
	if l.gate.resets.Load() {
		_ = conn.SetLinger(0)
	}
	return conn, nil
}

type gatedConn struct {
	*net.TCPConn
	gate *gate
}

// Write waits before it writes: an answer is one call.
func (c *gatedConn) Write(answer []byte) (int, error) {
	time.Sleep(time.Duration(c.gate.delay.Load()))
	return c.TCPConn.Write(answer)
}

// Close is that of a net.TCPConn.
func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c)
	c.gate.mu.Unlock()
	return c.TCPConn.Close()
}
