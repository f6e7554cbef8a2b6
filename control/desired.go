package control

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
)

// rules are what every desired state obeys. Their methods change a Manifest as Store.Update hands it
// out: they replace services, never modify them. An error leaves the Manifest in any state.
type rules struct {
	defaults Defaults
	limits   dataplane.Limits
	exec     bool // probes may run programs
	scaleBy  bool // and scaling may
}

// create adds a service and returns it completed.
func (r rules) create(m *Manifest, s Service) (Service, error) {
	s = s.clone()
	if err := s.complete(r.defaults); err != nil {
		return Service{}, &FieldError{Path: err.Path, Service: s.Name, Problem: err.Problem}
	}
	before := m.usage()
	m.Services = append(m.Services, s)
	return s, r.check(m, before, []Service{s})
}

// update changes a service and returns it as it is then.
func (r rules) update(m *Manifest, ref string, p ServicePatch) (Service, error) {
	return r.change(m, ref, func(s *Service) error {
		if p.Name != nil {
			s.Name = *p.Name
		}
		if p.Mode != nil {
			s.Mode = p.Mode
		}
		if p.Probe != nil {
			s.Probe = cmp.Or(s.Probe, new(Probe))
			s.Probe.overlay(*p.Probe)
		}
		if p.Health != nil {
			merge(&s.Health, *p.Health)
		}
		replace(&s.Load, p.Load)
		s.patchScaling(p.Scaling)
		s.Apply(p)
		return nil
	})
}

// remove removes a service.
func (r rules) remove(m *Manifest, ref string) error {
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	m.followEvents(func(name string) string {
		if name == m.Services[i].Name {
			return ""
		}
		return name
	})
	m.Services = slices.Delete(m.Services, i, i+1)
	return nil
}

// addBackend adds a backend to a service and returns it completed.
func (r rules) addBackend(m *Manifest, ref string, b Backend) (Backend, error) {
	s, err := r.change(m, ref, func(s *Service) error {
		s.Backends = append(s.Backends, b)
		last := &s.Backends[len(s.Backends)-1]
		last.Weight = clonePointer(b.Weight)
		s.completeBackends()
		for i := range s.Backends[:len(s.Backends)-1] {
			switch other := &s.Backends[i]; {
			case other.Address == last.Address && other.Port == last.Port:
				return tag(ErrConflict, "service %q has backend %s already, as %q", s.Name, last.defaultName(true), other.Name)
			case other.Name == last.Name:
				return tag(ErrConflict, "service %q has a backend %q already", s.Name, last.Name)
			}
		}
		return nil
	})
	if err != nil {
		return Backend{}, err
	}
	return s.Backends[len(s.Backends)-1], nil
}

// updateBackend changes a backend and returns it as it is then.
func (r rules) updateBackend(m *Manifest, service, ref string, p BackendPatch) (Backend, error) {
	var at int
	s, err := r.change(m, service, func(s *Service) (err error) {
		if at, err = s.find(ref); err != nil {
			return err
		}
		b := &s.Backends[at]
		if p.Name != nil {
			b.Name = *p.Name
		}
		if p.Weight != nil {
			b.Weight = p.Weight
		}
		if p.State != nil {
			b.State = *p.State
		}
		b.patchProbe(p.Probe)
		replace(&b.Set, p.Set)
		replace(&b.ServerID, p.ServerID)
		replace(&b.Zone, p.Zone)
		replace(&b.Rack, p.Rack)
		return nil
	})
	if err != nil {
		return Backend{}, err
	}
	return s.Backends[at], nil
}

// patchScaling merges what differs, where another executor has no use for what the former one needs; an empty one removes all.
func (s *Service) patchScaling(p *Scaling) {
	switch {
	case p == nil:
	case !p.on():
		s.Scaling = Scaling{}
	default:
		if p.Executor != "" && p.Executor != s.Scaling.Executor {
			s.Scaling.Command, s.Scaling.URL, s.Scaling.Workload, s.Scaling.Namespace = "", "", "", ""
		}
		merge(&s.Scaling, *p)
	}
}

// patchProbe merges a probe into that of b; an empty one removes it.
func (b *Backend) patchProbe(p *Probe) {
	switch {
	case p == nil:
	case *p == Probe{}:
		b.Probe = nil
	default:
		b.Probe = cmp.Or(b.Probe, new(Probe))
		b.Probe.overlay(*p)
	}
}

// removeBackend removes a backend from a service.
func (r rules) removeBackend(m *Manifest, service, ref string) error {
	_, err := r.change(m, service, func(s *Service) error {
		i, err := s.find(ref)
		if err != nil {
			return err
		}
		s.Backends = slices.Delete(s.Backends, i, i+1)
		return nil
	})
	return err
}

// change replaces a service by a changed copy and returns it completed.
func (r rules) change(m *Manifest, ref string, edit func(*Service) error) (Service, error) {
	i, err := m.find(ref)
	if err != nil {
		return Service{}, err
	}
	s := m.Services[i].clone()
	if err := edit(&s); err != nil {
		return Service{}, err
	}
	if err := s.complete(r.defaults); err != nil {
		return Service{}, &FieldError{Path: err.Path, Service: m.Services[i].Name, Problem: err.Problem}
	}
	before := m.usage()
	m.followEvents(func(name string) string {
		if name == m.Services[i].Name {
			return s.Name
		}
		return name
	})
	m.Services[i] = s
	return s, r.check(m, before, []Service{s})
}

// apply makes the listed services what is listed and says what that changes.
func (r rules) apply(m *Manifest, request ApplyRequest) (ApplyResult, error) {
	listed := Manifest{Services: request.Services, Events: request.Events}.clone()
	m.adoptNames(listed)
	if err := listed.complete(r.defaults); err != nil {
		return ApplyResult{}, err
	}
	for _, p := range pairs(m.Services, listed.Services) {
		if p.before != nil && p.after != nil && p.after.keepOrdered(p.before) {
			if err := p.after.complete(r.defaults); err != nil {
				return ApplyResult{}, &FieldError{Path: err.Path, Service: p.after.Name, Problem: err.Problem + " (among the backends that scaling started)"}
			}
		}
	}
	result := ApplyResult{Changes: []Change{}, Kept: []string{}}
	next := Manifest{Services: listed.Services, Events: slices.Clone(m.Events)}
	names := make(map[string]string, len(m.Services)) // before and after
	for _, p := range pairs(m.Services, listed.Services) {
		switch {
		case p.before != nil && p.after != nil:
			names[p.before.Name] = p.after.Name
		case p.after == nil && !request.Prune:
			next.Services = append(next.Services, *p.before)
			result.Kept = append(result.Kept, p.before.Name)
			names[p.before.Name] = p.before.Name
		}
	}
	slices.Sort(result.Kept)
	if err := r.check(&next, m.usage(), listed.Services); err != nil {
		return ApplyResult{}, err
	}
	next.followEvents(func(name string) string { return names[name] })
	if err := next.applyEvents(listed, request.Prune); err != nil {
		return ApplyResult{}, err
	}
	result.Changes = append(result.Changes, difference(m.Services, next.Services)...)
	result.Changes = append(result.Changes, eventDifference(m.Events, next.Events)...)
	*m = next
	return result, nil
}

// keepOrdered has a service that scales keep the backends that scaling started, which nobody lists, and says that there are some.
func (s *Service) keepOrdered(before *Service) (kept bool) {
	if !s.Scaling.on() {
		return false
	}
	listed := make(map[netip.AddrPort]bool, len(s.Backends))
	names := make(map[string]bool, len(s.Backends))
	for i := range s.Backends {
		listed[s.Backends[i].place()], names[s.Backends[i].Name] = true, true
	}
	for _, b := range before.Backends {
		if b.Order != "" && !listed[b.place()] && !names[b.Name] {
			s.Backends, kept = append(s.Backends, b), true
		}
	}
	return kept
}

// adoptNames gives services and backends that are listed without a name the one they have already.
func (m *Manifest) adoptNames(listed Manifest) {
	names := make(map[string]*Service, len(m.Services))
	keys := make(map[dataplane.ServiceKey]*Service, len(m.Services))
	for i := range m.Services {
		s := &m.Services[i]
		names[s.Name], keys[s.Key()] = s, s
	}
	for i := range listed.Services {
		s := &listed.Services[i]
		key := dataplane.ServiceKey{
			Address: s.Address.Unmap(), Port: s.Port, Protocol: cmp.Or(s.Protocol, dataplane.ProtocolTCP),
		}
		present := keys[key]
		if s.Name != "" && names[s.Name] != nil {
			present = names[s.Name]
		}
		if present == nil {
			continue
		}
		s.Name = cmp.Or(s.Name, present.Name)
		s.adoptNames(present)
	}
}

func (s *Service) adoptNames(present *Service) {
	names := make(map[netip.AddrPort]string, len(present.Backends))
	for _, b := range present.Backends {
		names[b.place()] = b.Name
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		b.Name = cmp.Or(b.Name, names[netip.AddrPortFrom(b.Address.Unmap(), cmp.Or(b.Port, s.Port))])
	}
}

// usage is what a desired state takes of the limits.
type usage struct {
	services int // and the sets of backends that rules name: each has a table in the kernel's array of services
	backends int
}

func (m *Manifest) usage() usage {
	var u usage
	for i := range m.Services {
		u.services += 1 + len(m.Services[i].sets())
		u.backends += len(m.Services[i].Backends)
	}
	return u
}

// sets are those of the backends that rules name, but the one of all other clients, whose table is the service's own.
func (s *Service) sets() map[string]bool {
	if len(s.Sources) == 0 {
		return nil
	}
	sets := make(map[string]bool)
	for _, rule := range s.Sources {
		sets[rule.Set] = true
	}
	delete(sets, "")
	return sets
}

// check looks at what concerns several services. All of them are complete, and those that are not among the changed ones
// were checked before. What was beyond a limit before, which may have been lowered meanwhile, may stay so as long as it
// does not grow.
func (r rules) check(m *Manifest, before usage, changed []Service) error {
	names := make(map[string]int, len(changed)) // how often each is met
	keys := make(map[dataplane.ServiceKey]string, len(changed))
	for i := range changed {
		s := &changed[i]
		names[s.Name], keys[s.Key()] = 0, ""
		if !r.exec && s.runs() {
			return tag(ErrInvalid, "service %q: probe.type: %v", s.Name, errNoExec)
		}
		if !r.scaleBy && s.Scaling.Executor == executorExec {
			return tag(ErrInvalid, "service %q: scaling.executor: %v", s.Name, errNoScaleExec)
		}
	}
	for i := range m.Services {
		s := &m.Services[i]
		if n, checked := names[s.Name]; checked {
			if names[s.Name]++; n > 0 {
				return tag(ErrConflict, "there is a service %q already", s.Name)
			}
		}
		if other, checked := keys[s.Key()]; checked {
			if other != "" {
				return tag(ErrConflict, "service %q cannot have %s, which is that of service %q", s.Name, s.Key(), other)
			}
			keys[s.Key()] = s.Name
		}
	}
	after := m.usage()
	if limit := int(r.limits.Services); after.services > max(limit, before.services) {
		return tag(ErrInvalid, "%d services and sets of backends are more than the %d of limits.services", after.services, limit)
	}
	if limit := int(r.limits.Backends); after.backends > max(limit, before.backends) {
		return tag(ErrInvalid, "%d backends are more than the %d of limits.backends", after.backends, limit)
	}
	return nil
}

// errNoExec is about programs, which the daemon would run with its own rights.
var errNoExec = errors.New("exec is switched off: `probes: {exec: true}` in the daemon's configuration switches it on")

var errNoScaleExec = errors.New("exec is switched off: `scale: {exec: true}` in the daemon's configuration switches it on")

// runs says that a probe of the service runs a program.
func (s *Service) runs() bool {
	runs := func(p *Probe) bool { return p != nil && p.Kind == probe.Exec }
	return runs(s.Probe) || slices.ContainsFunc(s.Backends, func(b Backend) bool { return runs(b.Probe) })
}

// find returns the index of the service with a name, or with an address in any of the forms
// "10.0.0.1", "10.0.0.1:80", "10.0.0.1:80/tcp" and "10.0.0.1:*/tcp".
func (m *Manifest) find(ref string) (int, error) {
	for i := range m.Services {
		if m.Services[i].Name == ref {
			return i, nil
		}
	}
	var found []int
	if matches := keyMatcher(ref); matches != nil {
		for i := range m.Services {
			if matches(m.Services[i].Key()) {
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return 0, tag(ErrNotFound, "there is no service %q", ref)
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, at := range found {
		names[i] = m.Services[at].Name
	}
	return 0, tag(ErrInvalid, "%q may be any of these services: %s; use the name", ref, strings.Join(names, ", "))
}

// keyMatcher returns a test for the keys that ref can mean, nil when it is no address.
func keyMatcher(ref string) func(dataplane.ServiceKey) bool {
	text, protocol, withProtocol := strings.Cut(ref, "/")
	text, everyPort := strings.CutSuffix(text, ":*")
	address, port, err := ParseAddress(text)
	if err != nil {
		return nil
	}
	return func(k dataplane.ServiceKey) bool {
		return k.Address == address &&
			(port == 0 || k.Port == port) && (!everyPort || k.Port == 0) &&
			(!withProtocol || k.Protocol.String() == protocol)
	}
}

// find returns the index of the backend with a name, or with an address with or without its port.
func (s *Service) find(ref string) (int, error) {
	if i := slices.IndexFunc(s.Backends, func(b Backend) bool { return b.Name == ref }); i >= 0 {
		return i, nil
	}
	var found []int
	if address, port, err := ParseAddress(ref); err == nil {
		for i, b := range s.Backends {
			if b.Address == address && (port == 0 || b.Port == port) {
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return 0, tag(ErrNotFound, "service %q has no backend %q", s.Name, ref)
	case 1:
		return found[0], nil
	}
	return 0, tag(ErrInvalid, "%q may be any of %d backends of service %q; use the name or the port", ref, len(found), s.Name)
}

// Backend returns the backend that a name or an address means, or ErrNotFound, or ErrInvalid when it may be any of several.
func (s *Service) Backend(ref string) (Backend, error) {
	i, err := s.find(ref)
	if err != nil {
		return Backend{}, err
	}
	return s.Backends[i], nil
}

// place is what tells the backends of a service apart.
func (b *Backend) place() netip.AddrPort { return netip.AddrPortFrom(b.Address, b.Port) }

// nameOf returns the name of the backend in a place, or the place when no backend is there any more.
func (s *Service) nameOf(place netip.AddrPort) string {
	for i := range s.Backends {
		if s.Backends[i].place() == place {
			return s.Backends[i].Name
		}
	}
	return place.String()
}

func (s *Service) equal(o *Service) bool {
	return s.Name == o.Name && s.Key() == o.Key() && equalPointers(s.Mode, o.Mode) && equalPointers(s.Probe, o.Probe) && s.Health == o.Health && s.Load == o.Load && s.Scaling == o.Scaling && s.Selection.equal(o.Selection) &&
		(same(s.Backends, o.Backends) || slices.EqualFunc(s.Backends, o.Backends, equalBackends))
}

func equalBackends(a, b Backend) bool {
	return a.Name == b.Name && a.place() == b.place() && equalPointers(a.Weight, b.Weight) && a.State == b.State && equalPointers(a.Probe, b.Probe) &&
		a.Set == b.Set && a.ServerID == b.ServerID && a.MAC == b.MAC && a.Zone == b.Zone && a.Rack == b.Rack && a.Order == b.Order
}

// same says that two slices are one, which nobody modifies: services that did not change share theirs, and there may be
// very many.
func same[T any](a, b []T) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

func equalPointers[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
