package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
)

// session is a connection to the target, over TLS where the kind is.
type session struct {
	net.Conn // TLS or that below
	tcp      net.Conn
}

// Close resets the connection without the farewell of TLS, which might block.
func (s *session) Close() error { return s.tcp.Close() }

// open connects, and shakes hands where the kind is over TLS.
func (p *Prober) open(ctx context.Context) (*session, error) {
	tcp, err := p.via.Dial(ctx, "tcp", p.to)
	if err != nil {
		return nil, &Failure{"connect", err}
	}
	if p.tls == nil {
		return &session{Conn: tcp, tcp: tcp}, nil
	}
	secured := tls.Client(tcp, p.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, &Failure{"TLS handshake", err}
	}
	return &session{Conn: secured, tcp: tcp}, nil
}

// secure says whether the probe is over TLS.
func (s Spec) secure() bool { return s.Kind == HTTPS || s.Kind == TLS || s.Kind == GRPC && s.TLS }

func (s Spec) checkTLS() *FieldError {
	switch {
	case s.secure() && s.Insecure && s.CA != "":
		return invalid("ca", "insecure verifies nothing: give one of them")
	case s.secure():
		return nil
	case s.Insecure:
		return invalid("insecure", "set tls too, there is nothing to verify without")
	case s.CA != "":
		return invalid("ca", "set tls too, there is nothing to verify without")
	case s.ServerName != "":
		return invalid("server-name", "set tls too, there is nothing to verify without")
	}
	return nil
}

// tlsConfig has no cache of sessions: each probe shakes hands in full.
func (s Spec) tlsConfig(to netip.AddrPort) (*tls.Config, error) {
	c := &tls.Config{ServerName: s.serverName(to), InsecureSkipVerify: s.Insecure}
	switch s.Kind {
	case HTTPS:
		c.NextProtos = []string{"http/1.1"}
	case GRPC:
		c.NextProtos = []string{"h2"}
	}
	if s.CA == "" {
		return c, nil
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM", s.CA)
	}
	return c, nil
}

// serverName is what the certificate must be good for. crypto/tls sends no SNI for an address.
func (s Spec) serverName(to netip.AddrPort) string {
	if s.ServerName != "" {
		return s.ServerName
	}
	name := (&url.URL{Host: s.Host}).Hostname()
	if _, err := netip.ParseAddr(name); err != nil && name != "" {
		return name
	}
	return to.Addr().WithZone("").String()
}

func prepareTLS(Spec, netip.AddrPort) (exchange, *FieldError) {
	return func(ctx context.Context, p *Prober) error {
		s, err := p.open(ctx)
		if err != nil {
			return err
		}
		return s.Close()
	}, nil
}
