package traffic

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrMoved means that another backend than before answered a flow.
	ErrMoved = errors.New("moved to another backend")
	// ErrSilent means that a flow had no answer for FlowTimeout.
	ErrSilent = errors.New("no answer")
)

const (
	// FlowTimeout is how long a flow waits for one answer before it is broken.
	FlowTimeout = 5 * time.Second
	// datagramTimeout is how long a UDP flow waits before it sends a datagram again.
	datagramTimeout = 250 * time.Millisecond
)

// Flow is a long-lived TCP connection or a UDP socket that sends a number at regular intervals and expects
// it back from the same backend. It ends with its first error. Its methods are safe for concurrent use.
type Flow struct {
	conn    net.Conn
	backend string
	send    func(number int64) (backend string, err error)

	echoes, retries atomic.Int64
	last            atomic.Int64 // time of the last echo, ns
	closeOnce       sync.Once
	closing         chan struct{}
	done            chan struct{}
	err             error // valid when done is closed
}

// OpenFlow opens a flow to a TCP, HTTP or UDP endpoint, which network says ("tcp", "http", "udp"), and waits for its
// first answer. The end of ctx breaks it.
func OpenFlow(ctx context.Context, d Dialer, network, address string, interval time.Duration) (*Flow, error) {
	dialing, cancel := context.WithTimeout(ctx, FlowTimeout)
	defer cancel()
	transport := network
	if network == "http" {
		transport = "tcp"
	}
	conn, err := d.DialContext(dialing, transport, address)
	if err != nil {
		return nil, err
	}
	f := &Flow{conn: conn, closing: make(chan struct{}), done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	switch network {
	case "udp":
		f.send = f.sendDatagram
	case "http":
		f.send = f.requests()
	default:
		f.send, err = f.lines()
	}
	if err != nil {
		stop()
		return nil, errors.Join(err, conn.Close())
	}
	if f.backend, err = f.send(0); err != nil {
		stop()
		return nil, errors.Join(err, conn.Close())
	}
	f.echoed()
	go func() {
		defer close(f.done)
		defer stop()
		f.err = errors.Join(f.run(interval), ignoreClosed(conn.Close()))
	}()
	return f, nil
}

// Backend returns the backend that the flow belongs to.
func (f *Flow) Backend() string { return f.backend }

// Echoes returns how many numbers came back.
func (f *Flow) Echoes() int64 { return f.echoes.Load() }

// Retries returns how many datagrams were sent again because no answer came. It is 0 for TCP.
func (f *Flow) Retries() int64 { return f.retries.Load() }

// Last returns when the last number came back.
func (f *Flow) Last() time.Time { return time.Unix(0, f.last.Load()) }

// Done is closed when the flow has ended.
func (f *Flow) Done() <-chan struct{} { return f.done }

// Err returns why the flow broke: ErrMoved, ErrSilent or an error of the socket. It is nil for one that
// lives or was closed in good order.
func (f *Flow) Err() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// Close waits for the answer that is under way, ends the flow in good order, for TCP with a FIN in each
// direction, and returns Err.
func (f *Flow) Close() error {
	f.closeOnce.Do(func() { close(f.closing) })
	<-f.done
	return f.err
}

func (f *Flow) run(interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for number := int64(1); ; number++ {
		select {
		case <-f.closing:
			return f.finish()
		case <-ticker.C:
		}
		backend, err := f.send(number)
		if err != nil {
			return fmt.Errorf("number %d of the flow to %s: %w", number, f.backend, err)
		}
		if backend != f.backend {
			return fmt.Errorf("%w: from %s to %s", ErrMoved, f.backend, backend)
		}
		f.echoed()
	}
}

func (f *Flow) echoed() {
	f.echoes.Add(1)
	f.last.Store(time.Now().UnixNano())
}

// finish closes a TCP connection in both directions.
func (f *Flow) finish() error {
	conn, ok := f.conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("closing the flow to %s: %w", f.backend, err)
	}
	_ = conn.SetDeadline(time.Now().Add(FlowTimeout))
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrCorrupt, n)
	}
	if err != nil {
		return fmt.Errorf("closing the flow to %s: %w", f.backend, err)
	}
	return nil
}

// lines returns the send function of a TCP flow: a number on a line of its own, as it comes back.
func (f *Flow) lines() (func(int64) (string, error), error) {
	answers := bufio.NewReader(f.conn)
	_ = f.conn.SetDeadline(time.Now().Add(FlowTimeout))
	backend, err := readName(answers)
	if err != nil {
		return nil, err
	}
	return func(number int64) (string, error) {
		_ = f.conn.SetDeadline(time.Now().Add(FlowTimeout))
		line := fmt.Sprintf("%d\n", number)
		if _, err := io.WriteString(f.conn, line); err != nil {
			return backend, err
		}
		answer, err := answers.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return backend, ErrSilent
		}
		if err == nil && answer != line {
			err = fmt.Errorf("%w: %q came back as %q", ErrCorrupt, line, answer)
		}
		return backend, err
	}, nil
}

// requests returns the send function of an HTTP flow: one request after the other over the same connection.
func (f *Flow) requests() func(int64) (string, error) {
	answers := bufio.NewReader(f.conn)
	return func(number int64) (string, error) {
		_ = f.conn.SetDeadline(time.Now().Add(FlowTimeout))
		backend, err := Ask(f.conn, answers, fmt.Sprint(number), false)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ErrSilent
		}
		return backend, err
	}
}

// sendDatagram is the send function of a UDP flow. Answers to earlier numbers may still arrive, and an ICMP
// error is no answer.
func (f *Flow) sendDatagram(number int64) (string, error) {
	payload := fmt.Sprint(number)
	buffer := make([]byte, 512)
	for end := time.Now().Add(FlowTimeout); time.Now().Before(end); f.retries.Add(1) {
		again := time.Now().Add(datagramTimeout)
		_ = f.conn.SetDeadline(again)
		if _, err := io.WriteString(f.conn, payload); errors.Is(err, net.ErrClosed) {
			return "", err
		}
		for time.Now().Before(again) {
			n, err := f.conn.Read(buffer)
			if errors.Is(err, net.ErrClosed) {
				return "", err
			}
			if backend, answer, _ := strings.Cut(string(buffer[:n]), "\n"); err == nil && answer == payload {
				return backend, nil
			}
		}
	}
	return "", ErrSilent
}

// ignoreClosed drops the error of closing what the end of the context has closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
