package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A probe sends the first segment of a TCP connection and looks at what comes back. It is sent at once and
// then again, in case it is lost, and given up after a second.
const (
	probeTimeout = time.Second
	probeAgain   = 300 * time.Millisecond
)

// outcome of a probe.
type outcome int

const (
	unknown outcome = iota // there was no probe
	silent                 // no answer
	answers                // SYN and ACK: a server listens
	resets                 // RST: the address is there and no server listens
	refused                // an ICMP error: the backend does not take packets inside packets
)

// send carries an IP packet to one backend.
type send func(packet []byte) error

// prober sends probes with its own source port, and hears their answers on every interface: with the
// service's address for a source they might be dropped later on. Safe for concurrent use.
type prober struct {
	reserved int // a socket that keeps the port from others
	port     uint16
	packets  *os.File
	done     chan struct{}

	mu      sync.Mutex
	waiting map[uint32]waiter // by the sequence number that answers acknowledge
}

type waiter struct {
	end     end          // zero without a tunnel
	outcome chan outcome // holds one
}

func newProber() (*prober, error) {
	p := &prober{waiting: make(map[uint32]waiter), done: make(chan struct{})}
	var err error
	if p.reserved, p.port, err = reservePort(); err != nil {
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	if p.packets, err = openPackets(answersTo(p.port)); err != nil {
		unix.Close(p.reserved)
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	go p.hear()
	return p, nil
}

// reservePort binds a socket, which does not listen, to a free port.
func reservePort() (fd int, port uint16, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{})
	name, err2 := unix.Getsockname(fd)
	if err = errors.Join(err, err2); err != nil {
		unix.Close(fd)
		return 0, 0, err
	}
	return fd, uint16(name.(*unix.SockaddrInet4).Port), nil
}

// openPackets opens a socket that gets the IP packets of every interface that the filter accepts.
func openPackets(filter []unix.SockFilter) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: hostToNetwork(unix.ETH_P_ALL)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packets"), nil
}

func (p *prober) close() {
	p.packets.Close()
	<-p.done
	unix.Close(p.reserved)
}

// hear gives out what arrives, until the prober is closed.
func (p *prober) hear() {
	defer close(p.done)
	buffer := make([]byte, 1<<16)
	for {
		n, err := p.packets.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			continue // an interface that went down
		}
		if h, ok := listen(buffer[:n]); ok {
			p.deliver(h)
		}
	}
}

func (p *prober) deliver(h heard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for acknowledged, w := range p.waiting {
		var o outcome
		switch {
		case h.refuses != end{}:
			if o = refused; h.refuses != w.end {
				continue
			}
		case h.acknowledged != acknowledged:
			continue
		case h.reset:
			o = resets
		default:
			o = answers
		}
		select {
		case w.outcome <- o:
		default:
		}
	}
}

// try probes a server, by way of the backend that send carries packets to. It never completes the connection:
// what it opened it resets.
func (p *prober) try(ctx context.Context, source netip.Addr, server netip.AddrPort, send send, end end) (outcome, error) {
	syn := segment{source: netip.AddrPortFrom(source, p.port), destination: server, sequence: rand.Uint32(), syn: true}
	w := waiter{end: end, outcome: make(chan outcome, 1)}
	p.mu.Lock()
	p.waiting[syn.sequence+1] = w
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, syn.sequence+1)
		p.mu.Unlock()
	}()
	timeout := time.After(probeTimeout)
	for {
		if err := send(syn.packet()); err != nil {
			return unknown, err
		}
		select {
		case o := <-w.outcome:
			if o == answers {
				reset := segment{source: syn.source, destination: server, sequence: syn.sequence + 1, reset: true}
				_ = send(reset.packet()) // otherwise the server gives up by itself
			}
			return o, nil
		case <-timeout:
			return silent, nil
		case <-ctx.Done():
			return unknown, ctx.Err()
		case <-time.After(probeAgain):
		}
	}
}
