package probe

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// FieldError is a value that a Spec cannot have.
type FieldError struct {
	Field   string // as manifests spell it, such as "server-name"
	Problem string // what is wrong and what is allowed
}

// Error returns for example `status: "2xx" is no set of statuses such as 200-299,301`.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func invalid(field, format string, args ...any) *FieldError {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// kinds prepare the probes of each kind for a target.
var kinds = map[Kind]func(Spec, netip.AddrPort) (exchange, *FieldError){
	TCP: prepareTCP, HTTP: prepareHTTP, HTTPS: prepareHTTP, TLS: prepareTLS, DNS: prepareDNS,
	UDP: prepareUDP, ICMP: prepareICMP, GRPC: prepareGRPC, Exec: prepareExec,
}

// Check finds what a Spec cannot say; its error is a *FieldError. It does not look at the CA file.
func (s Spec) Check() error {
	example := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if _, problem := s.prepare(example); problem != nil {
		return problem
	}
	return nil
}

func (s Spec) prepare(to netip.AddrPort) (exchange, *FieldError) {
	if s.Kind == "" {
		s.Kind = TCP
	}
	prepare, known := kinds[s.Kind]
	if !known {
		return nil, invalid("kind", "%q is none of tcp, http, https, tls, dns, udp, icmp, grpc and exec", s.Kind)
	}
	if err := s.checkUse(); err != nil {
		return nil, err
	}
	return prepare(s, to)
}

// checkUse finds a field that the kind has no use for.
func (s Spec) checkUse() *FieldError {
	for _, f := range []struct {
		name  string
		given bool
		kinds []Kind
	}{
		{"method", s.Method != "", []Kind{HTTP, HTTPS}},
		{"path", s.Path != "", []Kind{HTTP, HTTPS}},
		{"host", s.Host != "", []Kind{HTTP, HTTPS, GRPC}},
		{"status", s.Status != "", []Kind{HTTP, HTTPS}},
		{"body", s.Body != "", []Kind{HTTP, HTTPS}},
		{"tls", s.TLS, []Kind{GRPC}},
		{"insecure", s.Insecure, []Kind{HTTPS, TLS, GRPC}},
		{"ca", s.CA != "", []Kind{HTTPS, TLS, GRPC}},
		{"server-name", s.ServerName != "", []Kind{HTTPS, TLS, GRPC}},
		{"query", s.Query != "", []Kind{DNS}},
		{"record", s.Record != "", []Kind{DNS}},
		{"send", s.Send != "", []Kind{TCP, UDP}},
		{"expect", s.Expect != "", []Kind{TCP, UDP, DNS}},
		{"service", s.Service != "", []Kind{GRPC}},
		{"command", s.Command != "", []Kind{Exec}},
	} {
		if f.given && !slices.Contains(f.kinds, s.Kind) {
			return invalid(f.name, "a probe of kind %s has no use for it, only %v", s.Kind, f.kinds)
		}
	}
	return s.checkTLS()
}

// pattern compiles a regular expression, nil for "".
func pattern(field, expression string) (*regexp.Regexp, *FieldError) {
	if expression == "" {
		return nil, nil
	}
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return nil, invalid(field, "%v: write a regular expression of RE2", err)
	}
	return compiled, nil
}
