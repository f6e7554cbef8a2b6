package probe

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// headerLimit and bodyLimit bound in bytes how much of a response is read.
const (
	headerLimit = 64 << 10
	bodyLimit   = 64 << 10
)

// webProbe is a request, and the responses to it that are good. HTTP is spoken on the probe's own connection rather than
// through a pool of them.
type webProbe struct {
	request *http.Request
	text    []byte // the request as it is sent
	good    statuses
	body    *regexp.Regexp // nil is any
}

func prepareHTTP(s Spec, to netip.AddrPort) (exchange, *FieldError) {
	w := new(webProbe)
	var problem *FieldError
	if w.request, problem = s.request(to); problem != nil {
		return nil, problem
	}
	if w.good, problem = parseStatuses(s.Status); problem != nil {
		return nil, problem
	}
	if w.body, problem = pattern("body", s.Body); problem != nil {
		return nil, problem
	}
	if w.body != nil && w.request.Method == http.MethodHead {
		return nil, invalid("body", "a response to HEAD has none: use the method GET")
	}
	var text bytes.Buffer
	if err := w.request.Write(&text); err != nil {
		return nil, invalid("host", "%v", err)
	}
	w.text = text.Bytes()
	return w.probe, nil
}

// request makes one that says it is the last of its connection.
func (s Spec) request(to netip.AddrPort) (*http.Request, *FieldError) {
	request, err := http.NewRequest(s.Method, "/", nil)
	if err != nil || request.Method == http.MethodConnect {
		return nil, invalid("method", "%q is no method such as GET or HEAD", s.Method)
	}
	if s.Path != "" {
		target, err := url.ParseRequestURI(s.Path)
		if err != nil || !strings.HasPrefix(s.Path, "/") {
			return nil, invalid("path", "%q is no path such as /healthz?full=1", s.Path)
		}
		request.URL = target
	}
	var problem *FieldError
	request.Host, problem = s.authority(to)
	request.Header.Set("User-Agent", "sluice")
	request.Close = true
	return request, problem
}

// authority is the Host header.
func (s Spec) authority(to netip.AddrPort) (string, *FieldError) {
	if s.Host == "" {
		return netip.AddrPortFrom(to.Addr().WithZone(""), to.Port()).String(), nil
	}
	if parsed, err := url.Parse("//" + s.Host); err != nil || parsed.Host != s.Host || parsed.Hostname() == "" {
		return "", invalid("host", "%q is no host such as www.example.com or [2001:db8::1]:8080", s.Host)
	}
	return s.Host, nil
}

func (w *webProbe) probe(ctx context.Context, p *Prober) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write(w.text); err != nil {
		return &Failure{"request", err}
	}
	response, err := w.response(s)
	if err != nil {
		return &Failure{"response", err}
	}
	if !w.good.contain(response.StatusCode) {
		return fmt.Errorf("status %d is not within %v", response.StatusCode, w.good)
	}
	if w.body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	if err != nil {
		return &Failure{"body", err}
	}
	if !w.body.Match(body) {
		return fmt.Errorf("the body does not match %q", w.body)
	}
	return nil
}

// response reads the final one: others, with statuses below 200, may come before it (RFC 9110, section 15.2).
func (w *webProbe) response(from io.Reader) (*http.Response, error) {
	reader := bufio.NewReader(io.LimitReader(from, headerLimit+bodyLimit))
	for {
		response, err := http.ReadResponse(reader, w.request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
}

// statuses is a set of ranges, each from first to last.
type statuses [][2]int

func parseStatuses(text string) (statuses, *FieldError) {
	if text == "" {
		return statuses{{200, 399}}, nil
	}
	var set statuses
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 100 || to > 999 || from > to {
			return nil, invalid("status", "%q is no set of statuses such as 200-299,301", text)
		}
		set = append(set, [2]int{from, to})
	}
	return set, nil
}

func (s statuses) contain(status int) bool {
	for _, r := range s {
		if r[0] <= status && status <= r[1] {
			return true
		}
	}
	return false
}

// String returns for example "200-299,301".
func (s statuses) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		if parts[i] = strconv.Itoa(r[0]); r[0] != r[1] {
			parts[i] += "-" + strconv.Itoa(r[1])
		}
	}
	return strings.Join(parts, ",")
}
