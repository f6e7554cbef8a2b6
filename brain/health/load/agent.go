package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sluicelb/sluice/brain/health/probe"
)

// vocabulary is what an agent may say.
const vocabulary = "N%, up, down, fail, stopped, ready, drain, maint and maxconn:N"

// lineLimit bounds an agent's answer in bytes.
const lineLimit = 4096

// prepareAgent speaks the protocol of "agent-check" and "agent-send" in HAProxy's configuration manual, section 5.2
// (https://docs.haproxy.org/2.6/configuration.html).
func prepareAgent(s Spec) (read, *probe.FieldError) {
	send, err := probe.Payload(s.Send)
	if err != nil {
		return nil, &probe.FieldError{Field: "send", Problem: err.Error()}
	}
	return func(ctx context.Context, to netip.AddrPort, via probe.Dialer) (Report, error) {
		line, err := ask(ctx, to, via, send)
		if err != nil {
			return Report{}, err
		}
		return parseLine(line)
	}, nil
}

// ask returns the agent's line, which ends with \r, \n or the connection.
func ask(ctx context.Context, to netip.AddrPort, via probe.Dialer, send []byte) (string, error) {
	conn, err := via.Dial(ctx, "tcp", to)
	if err != nil {
		return "", &probe.Failure{Step: "connect", Cause: err}
	}
	defer conn.Close()
	if _, err := conn.Write(send); err != nil {
		return "", &probe.Failure{Step: "send", Cause: err}
	}
	line := make([]byte, 0, lineLimit)
	for len(line) < cap(line) {
		n, err := conn.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		if end := bytes.IndexAny(line, "\r\n"); end >= 0 {
			return string(line[:end]), nil
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return string(line), nil
		}
		if err != nil {
			return "", &probe.Failure{Step: "report", Cause: err}
		}
	}
	return "", fmt.Errorf("the agent's line is longer than %d bytes", lineLimit)
}

// parseLine reads words, in any order and case, and a description after a sharp. Of two words for the same thing the
// latter counts.
func parseLine(line string) (Report, error) {
	var r Report
	words, description, _ := strings.Cut(line, "#")
	for _, word := range strings.FieldsFunc(words, func(c rune) bool { return strings.ContainsRune(" \t,", c) }) {
		if !r.hear(strings.ToLower(word)) {
			return Report{}, fmt.Errorf("the agent said %q, which is none of %s", word, vocabulary)
		}
	}
	if r == (Report{}) {
		return Report{}, errors.New("the agent said nothing")
	}
	if r.Health != "" {
		r.Description = strings.TrimSpace(description)
	}
	return r, nil
}

// hear takes one word and says whether it is known.
func (r *Report) hear(word string) bool {
	switch word {
	case "up":
		r.Health = Up
		return true
	case "down", "fail", "stopped":
		r.Health = Down
		return true
	case "ready", "drain", "maint":
		r.Admin = State(word)
		return true
	}
	if digits, ok := strings.CutSuffix(word, "%"); ok {
		percent, err := strconv.ParseUint(digits, 10, 31)
		r.Weight = new(float64(percent) / 100)
		return err == nil
	}
	if digits, ok := strings.CutPrefix(word, "maxconn:"); ok {
		connections, err := strconv.ParseUint(digits, 10, 31)
		r.MaxConn = new(int(connections))
		return err == nil
	}
	return false
}
