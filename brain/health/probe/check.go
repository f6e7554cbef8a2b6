package probe

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
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
		return nil, invalid("type", "%q is none of tcp, http, https, tls, dns, udp, icmp, grpc and exec", s.Kind)
	}
	if err := s.checkUse(); err != nil {
		return nil, err
	}
	return prepare(s, to)
}

// uses are the kinds that have use for a field, by its name in manifests; type is not among them.
var uses = map[string][]Kind{
	"method":      {HTTP, HTTPS},
	"path":        {HTTP, HTTPS},
	"host":        {HTTP, HTTPS, GRPC},
	"status":      {HTTP, HTTPS},
	"body":        {HTTP, HTTPS},
	"tls":         {GRPC},
	"insecure":    {HTTPS, TLS, GRPC},
	"ca":          {HTTPS, TLS, GRPC},
	"server-name": {HTTPS, TLS, GRPC},
	"query":       {DNS},
	"record":      {DNS},
	"send":        {TCP, UDP},
	"expect":      {TCP, UDP, DNS},
	"service":     {GRPC},
	"command":     {Exec},
}

// useless are the fields that are given and of no use for the kind.
func (s *Spec) useless() (names []string, fields []reflect.Value) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if kinds, limited := uses[name]; limited && !v.Field(i).IsZero() && !slices.Contains(kinds, s.Kind) {
			names, fields = append(names, name), append(fields, v.Field(i))
		}
	}
	return names, fields
}

// As returns s for another kind, without the fields that this one has no use for.
func (s Spec) As(kind Kind) Spec {
	s.Kind = kind
	_, fields := s.useless()
	for _, field := range fields {
		field.SetZero()
	}
	return s
}

// checkUse finds a field that the kind has no use for.
func (s Spec) checkUse() *FieldError {
	if names, _ := s.useless(); len(names) > 0 {
		return invalid(names[0], "a probe of kind %s has no use for it, only %v", s.Kind, uses[names[0]])
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
