package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Errors of the daemon, as a Client returns them; test with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrInvalid     = errors.New("invalid")
	ErrUnreachable = errors.New("daemon unreachable")
)

// Client talks to the daemon through its API socket. It is safe for concurrent use.
//
// A service is named by its name or its address ("10.0.0.1:80", "10.0.0.1:80/tcp", or "10.0.0.1" when
// only one service has it), a backend by its name or its address with or without the port.
// Every method returns ErrUnreachable when no daemon answers, ErrNotFound for an unknown service or
// backend, ErrInvalid for a value that is not allowed and ErrConflict for a name or key in use.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a Client for the daemon that listens on the given Unix socket. It does not connect yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Services returns every service, sorted by name.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	return call[[]Service](ctx, c, http.MethodGet, "/v1/services", nil)
}

// Service returns one service.
func (c *Client) Service(ctx context.Context, ref string) (Service, error) {
	return call[Service](ctx, c, http.MethodGet, servicePath(ref), nil)
}

// CreateService creates a service with its backends and returns it completed.
func (c *Client) CreateService(ctx context.Context, s Service) (Service, error) {
	return call[Service](ctx, c, http.MethodPost, "/v1/services", s)
}

// UpdateService changes a service and returns it as it is then.
func (c *Client) UpdateService(ctx context.Context, ref string, p ServicePatch) (Service, error) {
	return call[Service](ctx, c, http.MethodPatch, servicePath(ref), p)
}

// RemoveService removes a service and its backends.
func (c *Client) RemoveService(ctx context.Context, ref string) error {
	_, err := call[empty](ctx, c, http.MethodDelete, servicePath(ref), nil)
	return err
}

// AddBackend adds a backend to a service and returns it completed.
func (c *Client) AddBackend(ctx context.Context, service string, b Backend) (Backend, error) {
	return call[Backend](ctx, c, http.MethodPost, servicePath(service)+"/backends", b)
}

// UpdateBackend changes a backend and returns it as it is then.
func (c *Client) UpdateBackend(ctx context.Context, service, backend string, p BackendPatch) (Backend, error) {
	return call[Backend](ctx, c, http.MethodPatch, backendPath(service, backend), p)
}

// RemoveBackend removes a backend from a service.
func (c *Client) RemoveBackend(ctx context.Context, service, backend string) error {
	_, err := call[empty](ctx, c, http.MethodDelete, backendPath(service, backend), nil)
	return err
}

// Apply makes the listed services exactly what is listed, all or nothing.
func (c *Client) Apply(ctx context.Context, r ApplyRequest) (ApplyResult, error) {
	return call[ApplyResult](ctx, c, http.MethodPost, "/v1/apply", r)
}

// Status returns what the daemon does now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Trace says what would become of the frames of a capture, one after the other, without sending anything or
// changing what the daemon knows and counts.
func (c *Client) Trace(ctx context.Context, r TraceRequest) ([]TracedPacket, error) {
	return call[[]TracedPacket](ctx, c, http.MethodPost, "/v1/trace", r)
}

// Explain says where a client's packet goes, and why, without sending anything.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, "/v1/explain", r)
}

// LogLevel returns the daemon's log level: debug, info, warn or error.
func (c *Client) LogLevel(ctx context.Context) (string, error) {
	body, err := call[logLevel](ctx, c, http.MethodGet, "/v1/log-level", nil)
	return body.Level, err
}

// SetLogLevel changes the daemon's log level until it ends.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	_, err := call[logLevel](ctx, c, http.MethodPut, "/v1/log-level", logLevel{Level: level})
	return err
}

// Version returns the daemon's version.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	return call[VersionInfo](ctx, c, http.MethodGet, "/v1/version", nil)
}

// logLevel is the body of /v1/log-level.
type logLevel struct {
	Level string `json:"level" enum:"debug,info,warn,error"`
}

// empty is the result of a call that answers without a body.
type empty struct{}

func servicePath(ref string) string { return "/v1/services/" + url.PathEscape(ref) }

func backendPath(service, ref string) string {
	return servicePath(service) + "/backends/" + url.PathEscape(ref)
}

// call makes one request. It is a function because methods have no type parameters.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var result T
	request, err := newRequest(ctx, method, path, body)
	if err != nil {
		return result, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return result, c.unreachable(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return result, readProblem(response)
	}
	if response.StatusCode == http.StatusNoContent {
		return result, nil
	}
	if err := json.NewDecoder(response.Body).Decode(&result); err != nil {
		return result, fmt.Errorf("reading the daemon's answer to %s %s: %w", method, path, err)
	}
	return result, nil
}

// stream asks for JSON objects that come one after the other, in the body of the answer, which the caller closes.
func (c *Client) stream(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	request, err := newRequest(ctx, http.MethodGet, path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		return nil, readProblem(response)
	}
	return response.Body, nil
}

// newRequest sends a body as JSON; one that is an io.Reader is sent as it is.
func newRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	reader, raw := body.(io.Reader)
	if body != nil && !raw {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://sluice"+path, reader)
	if err != nil {
		return nil, err
	}
	switch {
	case raw:
		request.Header.Set("Content-Type", "application/octet-stream")
	case body != nil:
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err // without the method and the made-up host
	}
	return tag(ErrUnreachable, "no daemon answers on %s: %v; is the daemon running? sluice run", c.socket, err)
}

// taggedError has a message of its own and is one of the sentinels.
type taggedError struct {
	sentinel error
	message  string
}

func (e *taggedError) Error() string { return e.message }
func (e *taggedError) Unwrap() error { return e.sentinel }

func tag(sentinel error, format string, args ...any) error {
	return &taggedError{sentinel, fmt.Sprintf(format, args...)}
}

// problem is the part of an RFC 9457 document that a Client shows.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

func readProblem(response *http.Response) error {
	var p problem
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
		p = problem{Title: response.Status}
	}
	message := p.Detail
	if message == "" {
		message = p.Title
	}
	for _, e := range p.Errors {
		message += "; " + strings.TrimPrefix(e.Location, "body.") + ": " + e.Message
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return &taggedError{ErrNotFound, message}
	case http.StatusConflict:
		return &taggedError{ErrConflict, message}
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return &taggedError{ErrInvalid, message}
	}
	return errors.New(message)
}
