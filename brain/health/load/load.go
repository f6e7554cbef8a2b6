// Package load asks a backend how loaded it is: by the protocol of HAProxy's agent checks, or by a metric that it offers
// to Prometheus. It decides nothing; what a report is worth is its caller's to say.
package load

import (
	"context"
	"errors"
	"math"
	"net/netip"

	"github.com/sluicelb/sluice/brain/health/probe"
)

// Kind is how a backend is asked.
type Kind string

// Kinds. "" is Agent.
const (
	Agent      Kind = "agent"      // a line of HAProxy's agent-check
	Prometheus Kind = "prometheus" // a metric in Prometheus' text format, over http
)

// Spec says how a backend is asked. It is comparable; the zero value of each field means its default. A field that the
// kind has no use for must be zero.
type Spec struct {
	Kind Kind

	// For agent: sent upon connection, with the escapes of a Go string; default nothing.
	Send string

	// For prometheus.
	Path   string  // default /metrics
	Metric string  // a gauge, such as busy_workers or busy_workers{pool="web"}; of all that match the sum counts
	Full   float64 // its value in a backend that is fully loaded, > 0; default 1
}

// State of a backend in its own words.
type State string

// States. "" is one that the backend says nothing about.
const (
	Up   State = "up"
	Down State = "down" // also said as fail and stopped

	Ready State = "ready"
	Drain State = "drain"
	Maint State = "maint"
)

// Report is what a backend says of itself. What it does not say stays as it was, see Over.
type Report struct {
	Weight      *float64 // share of the configured weight, >= 0; 1 is all of it
	Load        *float64 // >= 0; 1 is full
	MaxConn     *int     // connections that it wants at most, >= 0
	Health      State    // Up or Down
	Admin       State    // Ready, Drain or Maint: Ready ends both others
	Description string   // why it is as Health says
}

// Over returns the report with what it leaves open taken from the one before: only a backend itself takes back what it
// has said. Health and its description are one.
func (r Report) Over(before Report) Report {
	if r.Weight == nil {
		r.Weight = before.Weight
	}
	if r.Load == nil {
		r.Load = before.Load
	}
	if r.MaxConn == nil {
		r.MaxConn = before.MaxConn
	}
	if r.Health == "" {
		r.Health, r.Description = before.Health, before.Description
	}
	if r.Admin == "" {
		r.Admin = before.Admin
	}
	return r
}

// read asks once.
type read func(ctx context.Context, to netip.AddrPort, via probe.Dialer) (Report, error)

// Reader asks one backend. It holds nothing between reports and is safe for concurrent use.
type Reader struct {
	to   netip.AddrPort
	via  probe.Dialer
	read read
}

// New returns a Reader of the agent or server at an address. Its errors are those of Check.
func New(spec Spec, to netip.AddrPort, via probe.Dialer) (*Reader, error) {
	read, problem := spec.prepare()
	if problem != nil {
		return nil, problem
	}
	return &Reader{to: to, via: via, read: read}, nil
}

// Read asks the backend, over a new connection. The context should have a deadline: it bounds everything. Errors are
// those of package probe; also, what was said may not be understood. Then nothing of it counts.
func (r *Reader) Read(ctx context.Context) (Report, error) {
	report, err := r.read(ctx, r.to, r.via)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return Report{}, ctx.Err()
	}
	return report, err
}

// Check finds what a Spec cannot say; its error is a *probe.FieldError.
func (s Spec) Check() error {
	if _, problem := s.prepare(); problem != nil {
		return problem
	}
	return nil
}

func (s Spec) prepare() (read, *probe.FieldError) {
	const otherKind = "it is not for this kind of report"
	agent := s.Kind == Agent || s.Kind == ""
	switch {
	case !agent && s.Kind != Prometheus:
		return nil, &probe.FieldError{Field: "kind", Problem: "it is neither agent nor prometheus"}
	case !agent && s.Send != "":
		return nil, &probe.FieldError{Field: "send", Problem: otherKind}
	case agent && s.Path != "":
		return nil, &probe.FieldError{Field: "path", Problem: otherKind}
	case agent && s.Metric != "":
		return nil, &probe.FieldError{Field: "metric", Problem: otherKind}
	case agent && s.Full != 0:
		return nil, &probe.FieldError{Field: "full", Problem: otherKind}
	case s.Full < 0 || math.IsNaN(s.Full) || math.IsInf(s.Full, 0):
		return nil, &probe.FieldError{Field: "full", Problem: "give the metric's value at full load, more than 0"}
	case agent:
		return prepareAgent(s)
	default:
		return preparePrometheus(s)
	}
}
