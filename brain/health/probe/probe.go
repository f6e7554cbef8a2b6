// Package probe asks a server once whether it serves: by connecting, by a request of a protocol, or by a command. It
// decides nothing; when probes are made and what follows from them is its caller's.
//
// Every probe makes a new connection, because what new clients will meet is the question, and hangs up with a reset, so
// that no connection stays in TIME_WAIT.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
)

// Kind is what a probe asks.
type Kind string

// Kinds. "" is TCP.
const (
	TCP   Kind = "tcp"   // a connection, and an answer if Send or Expect is given
	HTTP  Kind = "http"  // a request of HTTP/1.1; its status decides, and its body if wanted
	HTTPS Kind = "https" // HTTP over TLS
	TLS   Kind = "tls"   // a handshake
	DNS   Kind = "dns"   // a query over UDP
	UDP   Kind = "udp"   // a datagram, which must be answered
	ICMP  Kind = "icmp"  // an echo request; needs CAP_NET_RAW
	GRPC  Kind = "grpc"  // Check of grpc.health.v1, which must answer SERVING
	Exec  Kind = "exec"  // a command, which must exit with 0
)

// Spec says what a probe does. It is comparable; the zero value of each field means its default. A field that the
// kind has no use for must be zero.
type Spec struct {
	Kind Kind

	// For http and https.
	Method string // default GET
	Path   string // with the query if there is one; default "/"
	Host   string // the Host header, also grpc's :authority; default the target's address and port
	Status string // the statuses that are good, such as "200-299,301"; default 200-399. Redirects are not followed
	Body   string // RE2, must match the first 64 KiB of the body; default: the body is not read

	// For https, tls, and grpc with TLS. The certificate must be good for ServerName.
	TLS        bool   // grpc only: over TLS
	Insecure   bool   // certificates are not verified
	CA         string // a file of PEM certificates that are trusted, read by New; default the system's
	ServerName string // also sent as SNI unless it is an address; default the name in Host, otherwise the target's address

	// For dns.
	Query  string // the name that is asked for; default "."
	Record string // its type, such as AAAA; default NS for ".", A for others

	// For tcp, udp and dns. Send may have the escapes of a Go string: \r\n, \x00.
	Send   string // not for dns, required for udp
	Expect string // RE2, must match the answer's first 4,096 bytes, or the text of one record; default any answer

	// For grpc: the service that is asked about; default the whole server.
	Service string

	// For exec: run by /bin/sh -c with SLUICE_ADDRESS and SLUICE_PORT in its environment. At the deadline, and when
	// it ends, its process group is killed. The last line of what it prints tells why it failed.
	Command string
}

// exchange is a probe of one kind.
type exchange func(ctx context.Context, p *Prober) error

// Prober probes one target. It holds nothing between probes and is safe for concurrent use.
type Prober struct {
	to       netip.AddrPort
	via      Dialer
	tls      *tls.Config // nil without TLS
	exchange exchange
}

// New returns a Prober for a target, whose port counts for nothing with icmp. Its errors are those of Check, of reading
// the CA file, and of a source address that is not of the target's family.
func New(spec Spec, to netip.AddrPort, via Dialer) (*Prober, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if via.Source = via.Source.Unmap(); via.Source.IsValid() && via.Source.Is4() != to.Addr().Is4() {
		return nil, fmt.Errorf("the source address %v cannot reach %v: give one of the same family", via.Source, to.Addr())
	}
	exchange, problem := spec.prepare(to)
	if problem != nil {
		return nil, problem
	}
	p := &Prober{to: to, via: via, exchange: exchange}
	if spec.secure() {
		var err error
		if p.tls, err = spec.tlsConfig(to); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Probe returns nil if the target serves. The context should have a deadline: it bounds everything. The text of an error
// is a short phrase about the target, such as "connect: connection refused". What it wraps tells whose trouble it is: a
// syscall.Errno, context.DeadlineExceeded or os.ErrDeadlineExceeded; context.Canceled if the context was cancelled.
func (p *Prober) Probe(ctx context.Context) error {
	err := p.exchange(ctx, p)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return err
}
