package control

import (
	"cmp"
	"errors"
	"net/netip"
	"reflect"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/load"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
)

// Probe is how backends are watched. A zero field means what encloses it says: a backend's probe follows its service's,
// that one the daemon's defaults, and those the profile. What only another type of probe has use for does not follow.
type Probe struct {
	probe.Spec
	Profile  health.Profile `json:"profile,omitempty" enum:"default,fast,gentle" doc:"What interval, timeout, rise and fall are unless they are given: every 100ms, 15ms or 2s. Default: default"`
	Port     uint16         `json:"port,omitempty" doc:"Default: the backend's port"`
	Source   netip.Addr     `json:"source,omitzero" doc:"Address of this host that probes come from. Default: the host's choice"`
	Via      Via            `json:"via,omitempty" enum:"service,backend" doc:"Whether the probe goes to the service's address on that very backend, as traffic does, or to the backend's own. Default: service in the modes l2, ipip and gue where ports agree, otherwise backend"`
	Interval Duration       `json:"interval,omitzero" doc:"From one probe to the next, 5ms to 1h"`
	Timeout  Duration       `json:"timeout,omitzero" doc:"The longest that an answer may take, 1ms to 1m; less for a backend that is known to be fast"`
	Rise     int            `json:"rise,omitempty" minimum:"0" maximum:"100" doc:"Successes in a row that bring a backend back"`
	Fall     int            `json:"fall,omitempty" minimum:"0" maximum:"100" doc:"Failures in a row that take a backend out"`
}

// Load is how backends are asked for their load; zero is not at all.
type Load struct {
	load.Spec
	Port     uint16   `json:"port,omitempty" doc:"Where backends are asked for their load. Default: the backend's port"`
	Interval Duration `json:"interval,omitzero" doc:"How often backends are asked for their load, 100ms to 1h. Default: 1s"`
}

// loadInterval is how often backends are asked by default.
const loadInterval = time.Second

func (l *Load) check() *FieldError {
	if *l == (Load{}) {
		return nil
	}
	if l.Interval != 0 && (l.Interval < Duration(100*time.Millisecond) || l.Interval > Duration(time.Hour)) {
		return invalid("interval", "%s is not within 100ms..1h", l.Interval)
	}
	return fieldError(l.source(&Backend{}).Check())
}

// source is what l says for one backend.
func (l *Load) source(b *Backend) health.LoadSource {
	if *l == (Load{}) {
		return health.LoadSource{}
	}
	s := health.LoadSource{
		Spec:     l.Spec,
		Address:  netip.AddrPortFrom(b.Address, cmp.Or(l.Port, b.Port)),
		Interval: time.Duration(cmp.Or(l.Interval, Duration(loadInterval))),
	}
	s.Kind = cmp.Or(s.Kind, load.Agent)
	return s
}

// ProbeNone is the kind of probe that takes a backend to be healthy.
const ProbeNone probe.Kind = "none"

// Via is where probes go in the modes in which backends answer clients directly.
type Via string

// The ways of probes.
const (
	ViaService Via = "service" // to the service's address, encapsulated for one backend
	ViaBackend Via = "backend" // to the backend's own address
)

// Defaults fill in what a Service leaves open.
type Defaults struct {
	Mode   dataplane.Mode `json:"mode"`
	Probe  Probe          `json:"probe"` // what is asked, port and source are a service's own
	Health Health         `json:"health"`
}

// builtinDefaults hold where the configuration says nothing else.
var builtinDefaults = Defaults{Mode: dataplane.ModeNAT}

func (p *Probe) check() *FieldError {
	_, known := p.Profile.Timing()
	switch {
	case p.Profile != "" && !known:
		return invalid("profile", "%q is no profile (known: default, fast, gentle)", p.Profile)
	case p.Source.IsValid() && (p.Source.IsUnspecified() || p.Source.IsMulticast()):
		return invalid("source", "%s is not the address of one host", p.Source)
	case p.Via != "" && p.Via != ViaService && p.Via != ViaBackend:
		return invalid("via", "%q is no way of probes (known: service, backend)", p.Via)
	case p.Interval != 0 && (p.Interval < Duration(5*time.Millisecond) || p.Interval > Duration(time.Hour)):
		return invalid("interval", "%s is not within 5ms..1h", p.Interval)
	case p.Timeout != 0 && (p.Timeout < Duration(time.Millisecond) || p.Timeout > Duration(time.Minute)):
		return invalid("timeout", "%s is not within 1ms..1m", p.Timeout)
	case p.Rise < 0 || p.Rise > 100:
		return invalid("rise", "%d is not within 1..100", p.Rise)
	case p.Fall < 0 || p.Fall > 100:
		return invalid("fall", "%d is not within 1..100", p.Fall)
	}
	return nil
}

// checkProbe checks the probe of one backend, as it is when everything is filled in. path is that of the backend.
func (s *Service) checkProbe(b *Backend, p *Probe, path string) *FieldError {
	at := "probe"
	if b.Probe != nil {
		at = path + ".probe"
		if err := b.Probe.check(); err != nil {
			return err.under(at, "")
		}
	}
	if err := p.checkSpec(); err != nil {
		return err.under(at, "")
	}
	switch {
	case p.Kind == ProbeNone:
		return nil
	case p.Port == 0 && b.Port == 0 && !p.withoutPort():
		return invalid(at+".port", "is needed, since %s has every port", path)
	case p.Via == ViaService && !s.Mode.DirectReturn():
		return invalid(at+".via", "service is for the modes l2, ipip and gue, and this one is %s", s.Mode)
	case p.Via == ViaService && p.withoutPort():
		return invalid(at+".via", "service is not for probes of type %s", p.Kind)
	case p.Source.IsValid() && p.Source.Is4() != p.place(s, b).Addr().Is4():
		return invalid(at+".source", "%s is not of the family of %s", p.Source, p.place(s, b).Addr())
	}
	return nil
}

// checkSpec checks what is asked. Where nothing is, the rest may stay.
func (p Probe) checkSpec() *FieldError {
	if p.Kind == ProbeNone {
		return nil
	}
	return fieldError(p.Spec.Check())
}

// withoutPort tells the probes that go to a host.
func (p *Probe) withoutPort() bool { return p.Kind == probe.ICMP || p.Kind == probe.Exec }

// fieldError is the error of a spec of probes or load.
func fieldError(err error) *FieldError {
	if field, ok := errors.AsType[*probe.FieldError](err); ok {
		return invalid(field.Field, "%s", field.Problem)
	}
	return nil
}

// place is where the probe of a backend goes.
func (p *Probe) place(s *Service, b *Backend) netip.AddrPort {
	address, port := b.Address, b.Port
	if p.Via == ViaService {
		address = s.Address
	}
	if p.Port != 0 {
		port = p.Port
	}
	return netip.AddrPortFrom(address, port)
}

// merge replaces the fields of a struct that are set in other.
func merge[T any](into *T, other T) {
	to, from := reflect.ValueOf(into).Elem(), reflect.ValueOf(other)
	for _, field := range fields(to.Type()) {
		if value := from.FieldByIndex(field.Index); !value.IsZero() {
			to.FieldByIndex(field.Index).Set(value)
		}
	}
}

// overlay replaces the fields that are set in other. With another type, what only the former one has use for is left out.
func (p *Probe) overlay(other Probe) {
	if other.Kind != "" && other.Kind != p.Kind && other.Kind != ProbeNone {
		p.Spec = p.As(other.Kind)
	}
	merge(p, other)
}

// probe is the probe of one backend with every field filled in that has a default. b may be nil: that of the service.
//
// What a profile stands for gives way to what is said at the place that names it, or further in.
func (s *Service) probe(d Defaults, b *Backend) Probe {
	layers := []*Probe{&d.Probe, s.Probe}
	if b != nil {
		layers = append(layers, b.Probe)
	}
	p := profileProbe(health.ProfileDefault)
	for _, layer := range layers {
		if layer == nil {
			continue
		}
		if layer.Profile != "" {
			timing := profileProbe(layer.Profile)
			p.Profile, p.Interval, p.Timeout, p.Rise, p.Fall = timing.Profile, timing.Interval, timing.Timeout, timing.Rise, timing.Fall
		}
		p.overlay(*layer)
	}
	if p.Kind == "" {
		p.Kind = ProbeNone
		if p.Port != 0 || s.Protocol == dataplane.ProtocolTCP && s.Port != 0 {
			p.Kind = probe.TCP
		}
	}
	if p.Via == "" {
		p.Via = ViaBackend
		if s.Mode.DirectReturn() && (p.Port == 0 || p.Port == s.Port) && !p.withoutPort() {
			p.Via = ViaService
		}
	}
	return p
}

// probes returns the probe of any backend: s.probe, but made once for all that have none of their own.
func (s *Service) probes(d Defaults) func(*Backend) *Probe {
	common := s.probe(d, nil)
	return func(b *Backend) *Probe {
		if b.Probe == nil {
			return &common
		}
		return new(s.probe(d, b))
	}
}

func profileProbe(name health.Profile) Probe {
	t, _ := name.Timing()
	return Probe{Profile: name, Interval: Duration(t.Interval), Timeout: Duration(t.Timeout), Rise: t.Rise, Fall: t.Fall}
}

// timing is what the probe says of time. Where the interval or the timeout differ from the profile's, the shortest timeout and
// the pause between confirmations, which only the profile has, keep their proportion to the timeout.
func (p *Probe) timing() health.Timing {
	t, _ := p.Profile.Timing()
	scale := min(1, float64(p.Timeout)/float64(t.Timeout))
	t.Floor = time.Duration(scale * float64(t.Floor))
	t.Confirm = time.Duration(scale * float64(t.Confirm))
	t.Interval, t.Timeout, t.Rise, t.Fall = time.Duration(p.Interval), time.Duration(p.Timeout), p.Rise, p.Fall
	return t
}
