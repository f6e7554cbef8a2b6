package traffic

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// Exchange asks a service once, checks the answer and returns the name of the backend that gave it. It is
// over at the latest when ctx is, which must have a deadline. Exchanges are safe for concurrent use.
type Exchange func(ctx context.Context) (backend string, err error)

// ErrCorrupt means that an answer is not what was sent.
var ErrCorrupt = errors.New("corrupt")

// HTTP returns an Exchange that posts size random bytes over a connection of its own and expects their
// SHA-256 in the answer.
func HTTP(d Dialer, address string, size int64) Exchange {
	return httpExchange(&http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, address, size)
}

// KeepAlive is HTTP over connections that are used again. They stay open for a second after their last use.
func KeepAlive(d Dialer, address string, size int64) Exchange {
	return httpExchange(&http.Transport{
		DialContext:         d.DialContext,
		MaxIdleConnsPerHost: 1 << 16, // as many as there are workers
		IdleConnTimeout:     time.Second,
	}, address, size)
}

func httpExchange(transport *http.Transport, address string, size int64) Exchange {
	return func(ctx context.Context) (string, error) {
		payload, hash := newPayload(size), sha256.New()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/", io.TeeReader(payload, hash))
		if err != nil {
			return "", err
		}
		request.ContentLength = size
		response, err := transport.RoundTrip(request)
		if err != nil {
			return "", err
		}
		return readAnswer(response, hash)
	}
}

// readAnswer reads an answer to the end and wants it to be the hash of what was sent.
func readAnswer(response *http.Response, sent hash.Hash) (backend string, err error) {
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	backend = response.Header.Get(backendHeader)
	if response.StatusCode != http.StatusOK {
		return backend, fmt.Errorf("the answer is %s", response.Status)
	}
	if string(answer) != hex.EncodeToString(sent.Sum(nil)) {
		return backend, fmt.Errorf("%w: %s received another payload", ErrCorrupt, backend)
	}
	return backend, nil
}

// Ask posts a payload to an HTTP endpoint over a connection that the caller has made, and expects its SHA-256 in the
// answer. The server hangs up after the last one. It costs a tenth of HTTP.
func Ask(conn io.Writer, answers *bufio.Reader, payload string, last bool) (backend string, err error) {
	header := ""
	if last {
		header = "Connection: close\r\n"
	}
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: sluice\r\nContent-Length: %d\r\n%s\r\n%s", len(payload), header, payload)
	if err != nil {
		return "", err
	}
	response, err := http.ReadResponse(answers, &http.Request{Method: http.MethodPost})
	if err != nil {
		return "", fmt.Errorf("waiting for the answer: %w", err)
	}
	sent := sha256.New()
	_, _ = io.WriteString(sent, payload)
	return readAnswer(response, sent)
}

// Transfer returns an Exchange that sends size random bytes to a TCP endpoint over a connection of its own,
// receives them back at the same time, and compares the SHA-256 of both directions.
func Transfer(d Dialer, address string, size int64) Exchange {
	return func(ctx context.Context) (string, error) {
		conn, err := dial(ctx, d, "tcp", address)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		sent, received := sha256.New(), sha256.New()
		sending := make(chan error, 1)
		go func() {
			_, err := io.Copy(conn, io.TeeReader(newPayload(size), sent))
			sending <- errors.Join(err, closeWrite(conn))
		}()
		answer := bufio.NewReader(conn)
		backend, err := readName(answer)
		if err == nil {
			_, err = io.Copy(received, answer)
		}
		if err != nil {
			_ = conn.Close() // ends the sending too
		}
		if err := errors.Join(err, <-sending); err != nil {
			return backend, err
		}
		if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
			return backend, fmt.Errorf("%w: %s sent back another payload", ErrCorrupt, backend)
		}
		return backend, nil
	}
}

// Datagram returns an Exchange that sends one datagram of size random bytes from a socket of its own to a
// UDP endpoint. It does not try again.
func Datagram(d Dialer, address string, size int64) Exchange {
	return func(ctx context.Context) (string, error) {
		conn, err := dial(ctx, d, "udp", address)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		payload, err := io.ReadAll(newPayload(size))
		if err != nil {
			return "", err
		}
		if _, err := conn.Write(payload); err != nil {
			return "", err
		}
		buffer := make([]byte, maxDatagram)
		n, err := conn.Read(buffer)
		if err != nil {
			return "", fmt.Errorf("waiting for the answer: %w", err)
		}
		backend, answer, _ := strings.Cut(string(buffer[:n]), "\n")
		if answer != string(payload) {
			return backend, fmt.Errorf("%w: %s sent back another payload", ErrCorrupt, backend)
		}
		return backend, nil
	}
}

// dial connects; the connection ends with ctx's deadline.
func dial(ctx context.Context, d Dialer, network, address string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// closeWrite tells the other side of a TCP connection that all is sent.
func closeWrite(conn net.Conn) error {
	return conn.(interface{ CloseWrite() error }).CloseWrite()
}

// newPayload returns size random bytes, different ones each time.
func newPayload(size int64) io.Reader {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	return io.LimitReader(rand.NewChaCha8(seed), size)
}
