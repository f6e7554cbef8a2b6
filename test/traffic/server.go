// Package traffic makes real TCP, UDP and HTTP traffic and checks that it arrives complete, unchanged and
// from one backend: servers that say who they are, single exchanges, load made of them, and long-lived
// flows. Where sockets are made is the caller's choice, see Dialer and Listener.
package traffic

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Dialer makes the sockets of clients. *net.Dialer and *lab.Host are Dialers.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Listener makes the sockets of servers. *lab.Host is a Listener.
type Listener interface {
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// Here is the Listener of the network namespace that this process is in.
type Here struct{}

// Listen is net.Listen, for plain TCP: not all that can be done to its connections can be to those of Multipath TCP.
func (Here) Listen(network, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), network, address)
}

// ListenPacket is net.ListenPacket.
func (Here) ListenPacket(network, address string) (net.PacketConn, error) {
	return net.ListenPacket(network, address)
}

// Endpoints are the addresses of a Server, "" is none. "[::]:80" is port 80 of all addresses, IPv4 too; a
// UDP answer then leaves from the address that the route prefers, so that a server which answers clients
// directly (modes l2 and ipip) must listen on the service's own address.
type Endpoints struct {
	HTTP string // answers POST / with the backend's name and the body's SHA-256, see HTTP
	TCP  string // says NAME\n and then sends everything back, see Transfer and OpenFlow
	UDP  string // sends NAME\nPAYLOAD back, see Datagram and OpenFlow
}

// Server is a backend. Its methods are safe for concurrent use.
type Server struct {
	name string
	http *http.Server
	done sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	closers map[io.Closer]struct{}
}

// Serve starts a backend that calls itself name. Close must be called in the end.
func Serve(l Listener, name string, e Endpoints) (*Server, error) {
	s := &Server{name: name, closers: make(map[io.Closer]struct{})}
	s.http = &http.Server{
		Handler:           Handler(name),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a connection that breaks is the client's to notice
	}
	if err := s.listen(l, e); err != nil {
		s.Close()
		return nil, fmt.Errorf("starting the backend %s: %w", name, err)
	}
	return s, nil
}

func (s *Server) listen(l Listener, e Endpoints) error {
	for _, stream := range []struct {
		address string
		serve   func(net.Listener)
	}{{e.HTTP, s.serveHTTP}, {e.TCP, s.serveTCP}} {
		if stream.address == "" {
			continue
		}
		listener, err := l.Listen("tcp", stream.address)
		if err != nil {
			return err
		}
		s.track(listener)
		s.done.Go(func() { stream.serve(listener) })
	}
	if e.UDP == "" {
		return nil
	}
	conn, err := l.ListenPacket("udp", e.UDP)
	if err != nil {
		return err
	}
	s.track(conn)
	s.done.Go(func() { s.serveUDP(conn) })
	return nil
}

// Close ends all connections at once and frees the addresses.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.closers {
		_ = c.Close()
	}
	s.mu.Unlock()
	_ = s.http.Close()
	s.done.Wait()
}

// track has Close close c. It returns false, and closes c, when that happened already.
func (s *Server) track(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.closers[c] = struct{}{}
	return true
}

func (s *Server) forget(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = c.Close()
	delete(s.closers, c)
}

// backendHeader names the backend in an HTTP answer.
const backendHeader = "Sluice-Backend"

func (s *Server) serveHTTP(l net.Listener) { _ = s.http.Serve(l) }

// Handler answers as the HTTP endpoint of a Server does.
func Handler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		if _, err := io.Copy(hash, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set(backendHeader, name)
		_, _ = io.WriteString(w, hex.EncodeToString(hash.Sum(nil)))
	})
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !s.track(conn) {
			return
		}
		s.done.Go(func() {
			defer s.forget(conn)
			if _, err := io.WriteString(conn, s.name+"\n"); err == nil {
				_, _ = io.Copy(conn, conn)
			}
		})
	}
}

func (s *Server) serveUDP(conn net.PacketConn) {
	buffer := make([]byte, maxDatagram)
	header := copy(buffer, s.name+"\n")
	for {
		n, from, err := conn.ReadFrom(buffer[header:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo(buffer[:header+n], from)
		}
	}
}

// maxDatagram is more than any UDP payload.
const maxDatagram = 1 << 16

// readName reads what a backend says first on a TCP connection.
func readName(r *bufio.Reader) (string, error) {
	name, err := r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("waiting for the backend's name: %w", err)
	}
	return name[:len(name)-1], nil
}
