package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// gRPC's health protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md) is one small message each way,
// over HTTP/2 as https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md says. net/http speaks that; the client of
// google.golang.org/grpc would add 5.6 MB to the binary, and hide why a connection failed.
const (
	checkMethod = "/grpc.health.v1.Health/Check"
	frameHeader = 5 // bytes: a flag that is 1 for a compressed message, and the length
)

// servingStatuses are those of grpc.health.v1.HealthCheckResponse.
var servingStatuses = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// serving is the status of a service that is well.
const serving = 1

type grpcProbe struct {
	url       url.URL
	authority string
	message   []byte // HealthCheckRequest in its frame
}

func prepareGRPC(s Spec, to netip.AddrPort) (exchange, *FieldError) {
	authority, problem := s.authority(to)
	if problem != nil {
		return nil, problem
	}
	g := &grpcProbe{authority: authority, url: url.URL{Scheme: "http", Host: to.String(), Path: checkMethod}}
	if s.TLS {
		g.url.Scheme = "https"
	}
	var message []byte
	if s.Service != "" {
		message = protowire.AppendTag(message, 1, protowire.BytesType) // HealthCheckRequest.service
		message = protowire.AppendString(message, s.Service)
	}
	g.message = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	g.message = append(g.message, message...)
	return g.probe, nil
}

func (g *grpcProbe) probe(ctx context.Context, p *Prober) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	client, err := s.http2(ctx, g.url.Scheme, p.to.String())
	if err != nil {
		return &Failure{"HTTP/2", err}
	}
	defer client.Close()
	defer s.Close() // first, so that the client says no farewell
	response, err := client.RoundTrip(g.request(ctx))
	if err != nil {
		return &Failure{"response", err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	if err != nil {
		return &Failure{"response", err}
	}
	return judgeHealth(response, body)
}

// http2 begins HTTP/2 on the connection.
func (s *session) http2(ctx context.Context, scheme, address string) (*http.ClientConn, error) {
	if secured, ok := s.Conn.(*tls.Conn); ok && secured.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errors.New("the server does not offer it")
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return s.Conn, nil }
	transport := &http.Transport{
		DialContext: dial, DialTLSContext: dial, DisableCompression: true, MaxResponseHeaderBytes: headerLimit,
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP2(true)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport.NewClientConn(ctx, scheme, address)
}

func (g *grpcProbe) request(ctx context.Context) *http.Request {
	request := &http.Request{
		Method: http.MethodPost, URL: &g.url, Host: g.authority,
		Header: http.Header{
			"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"sluice"},
		},
		Body: io.NopCloser(bytes.NewReader(g.message)), ContentLength: int64(len(g.message)),
	}
	return request.WithContext(ctx)
}

// judgeHealth says whether a response, whose body was read, is SERVING.
func judgeHealth(response *http.Response, body []byte) error {
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d is no answer of gRPC", response.StatusCode)
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/grpc") {
		return fmt.Errorf("content type %q is no answer of gRPC", response.Header.Get("Content-Type"))
	}
	trailer := response.Trailer
	if trailer.Get("Grpc-Status") == "" {
		trailer = response.Header // a response of trailers only
	}
	if code := trailer.Get("Grpc-Status"); code != "0" {
		text, err := url.PathUnescape(trailer.Get("Grpc-Message"))
		if err != nil {
			text = trailer.Get("Grpc-Message")
		}
		return fmt.Errorf("gRPC status %s: %s", code, text)
	}
	status, err := servingStatus(body)
	if err != nil || status == serving {
		return err
	}
	if status < uint64(len(servingStatuses)) {
		return fmt.Errorf("the service is %s", servingStatuses[status])
	}
	return fmt.Errorf("the service's status is %d", status)
}

// servingStatus reads the status of a HealthCheckResponse in its frame.
func servingStatus(frame []byte) (uint64, error) {
	malformed := errors.New("the answer is no HealthCheckResponse")
	if len(frame) < frameHeader || frame[0] != 0 || uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(frame)-frameHeader) {
		return 0, malformed
	}
	var status uint64 // absent, it is UNKNOWN
	for message := frame[frameHeader:]; len(message) > 0; {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0, malformed
		}
		message = message[n:]
		if number == 1 && kind == protowire.VarintType { // HealthCheckResponse.status
			status, n = protowire.ConsumeVarint(message)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return 0, malformed
		}
		message = message[n:]
	}
	return status, nil
}
