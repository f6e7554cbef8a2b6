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
	"time"
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
	Kind Kind `json:"type,omitempty" enum:"tcp,http,https,tls,dns,udp,icmp,grpc,exec,none" doc:"What is asked of backends. Default: tcp for tcp services and wherever a port is given here, otherwise none"`

	// For http and https.
	Method string `json:"method,omitempty" doc:"http: default GET"`
	Path   string `json:"path,omitempty" doc:"http: with the query if there is one, default /"`
	Host   string `json:"host,omitempty" doc:"http: the Host header, grpc: the authority; default the address and port"`
	Status string `json:"status,omitempty" doc:"http: the statuses that are good, such as 200-299,301; default 200-399"`
	Body   string `json:"body,omitempty" doc:"http: regular expression (RE2) that the first 64 KiB of the body match"`

	// For https, tls, and grpc with TLS. The certificate must be good for ServerName.
	TLS        bool   `json:"tls,omitempty" doc:"grpc: over TLS"`
	Insecure   bool   `json:"insecure,omitempty" doc:"Certificates are not verified"`
	CA         string `json:"ca,omitempty" doc:"File of PEM certificates that are trusted; default the system's"`
	ServerName string `json:"server-name,omitempty" doc:"The name that the certificate must have, and the SNI; default the name in host, otherwise the address"`

	// For dns.
	Query  string `json:"query,omitempty" doc:"dns: the name that is asked for; default ."`
	Record string `json:"record,omitempty" doc:"dns: the type, such as AAAA; default NS for ., otherwise A"`

	// For tcp, udp and dns. Send may have the escapes of a Go string: \r\n, \x00.
	Send   string `json:"send,omitempty" doc:"tcp, udp: what is sent, with the escapes of a Go string"`
	Expect string `json:"expect,omitempty" doc:"tcp, udp, dns: regular expression (RE2) that the answer matches"`

	// For grpc: the service that is asked about; default the whole server.
	Service string `json:"service,omitempty" doc:"grpc: the service that is asked about; default the whole server"`

	// For exec: run by /bin/sh -c with SLUICE_ADDRESS and SLUICE_PORT in its environment. At the deadline, and when
	// it ends, its process group is killed. The last line of what it prints tells why it failed.
	Command string `json:"command,omitempty" doc:"exec: run by /bin/sh -c; needs probes.exec in the daemon's configuration"`
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
	exchange, problem := spec.prepare(to)
	if problem != nil {
		return nil, problem
	}
	p := &Prober{to: to, exchange: exchange}
	if spec.secure() {
		var err error
		if p.tls, err = spec.tlsConfig(to); err != nil {
			return nil, err
		}
	}
	return p.Via(via)
}

// Via returns a Prober that asks the same by other sockets. Its error is of a source address that is not of the target's
// family.
func (p *Prober) Via(via Dialer) (*Prober, error) {
	if via.Source = via.Source.Unmap(); via.Source.IsValid() && via.Source.Is4() != p.to.Addr().Is4() {
		return nil, fmt.Errorf("the source address %v cannot reach %v: give one of the same family", via.Source, p.to.Addr())
	}
	other := *p
	other.via = via
	return &other, nil
}

// Connect is what a probe's connection is allowed, and what it took. A kernel accepts connections, so that a server which is
// slow does not make them slow: one that takes long tells of a host that is gone sooner than a missing answer does.
type Connect struct {
	Limit time.Duration // of connecting by TCP; 0 is none but the context's
	Took  time.Duration // filled in once the target has accepted
}

// Probe returns nil if the target serves. The context should have a deadline: it bounds everything; connect may be nil. The
// text of an error is a short phrase about the target, such as "connect: connection refused". What it wraps tells whose
// trouble it is: a syscall.Errno, context.DeadlineExceeded or os.ErrDeadlineExceeded; context.Canceled if the context was
// cancelled.
func (p *Prober) Probe(ctx context.Context, connect *Connect) error {
	once := *p
	once.via.connect = connect
	err := p.exchange(ctx, &once)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return err
}
