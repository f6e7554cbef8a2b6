package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// answerLimit bounds in bytes how much of an answer is looked at.
const answerLimit = 4096

// dialogue is what is sent and what must come back.
type dialogue struct {
	send   []byte
	expect *regexp.Regexp // nil is any answer
}

func prepareDialogue(s Spec) (*dialogue, *FieldError) {
	send, err := Payload(s.Send)
	if err != nil {
		return nil, invalid("send", "%v", err)
	}
	expect, problem := pattern("expect", s.Expect)
	return &dialogue{send: send, expect: expect}, problem
}

func prepareTCP(s Spec, _ netip.AddrPort) (exchange, *FieldError) {
	d, problem := prepareDialogue(s)
	if problem != nil {
		return nil, problem
	}
	return d.stream, nil
}

// prepareUDP asks for a payload: without an answer nothing tells a server that is well from one that is gone, so one
// is always required, and servers that answer empty datagrams are rare.
func prepareUDP(s Spec, _ netip.AddrPort) (exchange, *FieldError) {
	if s.Send == "" {
		return nil, invalid("send", "give a payload that the server answers: an answer is always required")
	}
	d, problem := prepareDialogue(s)
	if problem != nil {
		return nil, problem
	}
	return d.datagram, nil
}

// stream connects, which is all if nothing is sent or expected. The answer may come in pieces; without Expect any
// byte is one.
func (d *dialogue) stream(ctx context.Context, p *Prober) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if len(d.send) == 0 && d.expect == nil {
		return nil
	}
	if _, err := s.Write(d.send); err != nil {
		return &Failure{"send", err}
	}
	answer := make([]byte, 0, answerLimit)
	for len(answer) < cap(answer) {
		n, err := s.Read(answer[len(answer):cap(answer)])
		if answer = answer[:len(answer)+n]; n > 0 && d.judge(answer) == nil {
			return nil
		}
		switch {
		case errors.Is(err, io.EOF) && len(answer) > 0:
			return d.judge(answer)
		case err != nil && len(answer) > 0:
			return &Failure{d.judge(answer).Error(), err}
		case err != nil:
			return &Failure{"answer", err}
		}
	}
	return d.judge(answer)
}

// datagram sends one and takes the first that comes back. A refusal by ICMP is an error of the socket (ECONNREFUSED),
// since it is connected (udp(7)).
func (d *dialogue) datagram(ctx context.Context, p *Prober) error {
	conn, err := p.via.Dial(ctx, "udp", p.to)
	if err != nil {
		return &Failure{"connect", err}
	}
	defer conn.Close()
	if _, err := conn.Write(d.send); err != nil {
		return &Failure{"send", err}
	}
	answer := make([]byte, answerLimit)
	n, err := conn.Read(answer)
	if err != nil {
		return &Failure{"", err}
	}
	return d.judge(answer[:n])
}

func (d *dialogue) judge(answer []byte) error {
	if d.expect == nil || d.expect.Match(answer) {
		return nil
	}
	const shown = 40 // bytes
	return fmt.Errorf("the answer %.*q does not match %q", shown, answer, d.expect)
}

// Payload reads text with the escapes of a Go string, such as \r\n and \x00.
func Payload(text string) ([]byte, error) {
	var payload []byte
	for rest := text; rest != ""; {
		r, multibyte, tail, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return nil, fmt.Errorf(`%q has an escape that Go strings do not have: write \\ for a backslash`, text)
		}
		if rest = tail; multibyte {
			payload = utf8.AppendRune(payload, r)
		} else {
			payload = append(payload, byte(r))
		}
	}
	return payload, nil
}
