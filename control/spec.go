package control

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// Manifest is a set of services, and the events that are planned: what apply reads, export writes and the store holds.
type Manifest struct {
	Services []Service      `json:"services"`
	Events   []PlannedEvent `json:"events,omitempty"`
}

// Service is the desired state of one service. What comes from the daemon has every field filled in,
// except Probe, which stays as it was written so that it follows the daemon's defaults.
type Service struct {
	Name     string             `json:"name,omitempty" maxLength:"63" doc:"Lower-case letters, digits, '.' and '-'. Default: made of protocol, address and port"`
	Address  netip.Addr         `json:"address" doc:"The virtual address that clients talk to"`
	Port     uint16             `json:"port,omitempty" doc:"0 or absent is every port"`
	Protocol dataplane.Protocol `json:"protocol,omitzero" enum:"tcp,udp,sctp" doc:"Default: tcp"`
	Mode     *dataplane.Mode    `json:"mode,omitempty" enum:"nat,l2,ipip,gue" doc:"Default: the daemon's defaults.mode"`
	Probe    *Probe             `json:"probe,omitempty" doc:"Default: the daemon's defaults.probe"`
	Health   Health             `json:"health,omitzero" doc:"How backends come and go. Default: the daemon's defaults.health"`
	Load     Load               `json:"load,omitzero" doc:"How backends are asked for their load. Default: not at all"`
	Scaling  Scaling            `json:"scaling,omitzero" doc:"How many backends there are, and who starts and ends them. Default: those that are listed"`
	Selection
	Backends []Backend `json:"backends,omitempty" nullable:"true"`
}

// Backend is the desired state of one backend of a service.
type Backend struct {
	Name    string     `json:"name,omitempty" maxLength:"63" doc:"Unique in the service. Default: the address, with the port when two backends share the address"`
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty" doc:"Default: the service's port. Only in nat mode it may differ"`
	Weight  *int       `json:"weight,omitempty" minimum:"0" maximum:"1000" doc:"Default: 100. A backend with weight 0 takes no new flows"`
	State   State      `json:"state,omitempty" enum:"up,draining,down,standby" doc:"Default: up"`
	Probe   *Probe     `json:"probe,omitempty" doc:"What differs from the service's probe"`

	Set      string             `json:"set,omitempty" maxLength:"63" doc:"Of backends, that sources send clients to. Default: the set of all other clients"`
	ServerID dataplane.ServerID `json:"server-id,omitempty" doc:"What QUIC connection IDs name it by, in hexadecimal"`
	MAC      MAC                `json:"mac,omitempty" doc:"Of its next hop, for sluice trace --config; a daemon finds it itself"`

	Zone  string `json:"zone,omitempty" maxLength:"63" doc:"What it is lost together with; scaling reckons with that"`
	Rack  string `json:"rack,omitempty" maxLength:"63" doc:"Within its zone"`
	Order string `json:"order,omitempty" maxLength:"63" doc:"Of scaling, that started it and may end it"`
}

// State is the state of a backend: as the user wishes it in a Backend, as it is in a BackendStatus.
type State = health.State

// The states of a backend.
const (
	StateUp       = health.Up
	StateDraining = health.Draining
	StateDown     = health.Down
	StateStandby  = health.Standby
)

// Limits of the values in a Service.
const (
	DefaultWeight = 100
	MaxWeight     = 1000
	maxNameLength = 63
)

// ServicePatch changes a service; nil fields leave what is there.
type ServicePatch struct {
	Name   *string         `json:"name,omitempty" maxLength:"63"`
	Mode   *dataplane.Mode `json:"mode,omitempty" enum:"nat,l2,ipip,gue"`
	Probe  *Probe          `json:"probe,omitempty" doc:"Its absent fields stay as they are"`
	Health *Health         `json:"health,omitempty" doc:"Its absent fields stay as they are"`
	Load   *Load           `json:"load,omitempty" doc:"{} removes it"`

	Scaling *Scaling `json:"scaling,omitempty" doc:"Its absent fields stay as they are; {} removes it"`

	Hash     *dataplane.Hash         `json:"hash,omitempty"`
	ClampMSS *dataplane.MSS          `json:"clamp-mss,omitempty"`
	QUIC     *dataplane.QUIC         `json:"quic,omitempty" doc:"{} removes it"`
	Limit    *dataplane.Limit        `json:"limit,omitempty" doc:"{} removes it"`
	Policy   *dataplane.Policy       `json:"policy,omitempty" enum:"maglev,p2c"`
	Tracking *dataplane.Tracking     `json:"tracking,omitempty" enum:"default,full,just-enough,none"`
	Sources  *[]dataplane.SourceRule `json:"sources,omitempty" doc:"All of them; [] removes them"`
}

// BackendPatch changes a backend; nil fields leave what is there.
type BackendPatch struct {
	Name   *string `json:"name,omitempty" maxLength:"63"`
	Weight *int    `json:"weight,omitempty" minimum:"0" maximum:"1000"`
	State  *State  `json:"state,omitempty" enum:"up,draining,down,standby"`
	Probe  *Probe  `json:"probe,omitempty" doc:"Its absent fields stay as they are; {} removes all"`

	Set      *string             `json:"set,omitempty" maxLength:"63"`
	ServerID *dataplane.ServerID `json:"server-id,omitempty" doc:"Empty removes it"`

	Zone *string `json:"zone,omitempty" maxLength:"63" doc:"Empty removes it"`
	Rack *string `json:"rack,omitempty" maxLength:"63" doc:"Empty removes it"`
}

// Duration is a time.Duration whose text is that of time.ParseDuration, such as "200ms".
type Duration time.Duration

// String returns for example "200ms".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 200ms", text)
	}
	*d = Duration(parsed)
	return nil
}

// FieldError is a value that a service or a manifest cannot have. It is an ErrInvalid.
type FieldError struct {
	Path    string // of the field, such as "services[2].backends[1].weight"
	Service string // name of the service it belongs to, "" when it has none
	Problem string // what is wrong and what is allowed
}

// Error returns for example `services[2] "web": backends[1]: weight: 1200 is not within 0..1000`.
func (e *FieldError) Error() string {
	parts := strings.Split(e.Path, ".")
	if e.Service != "" {
		if strings.HasPrefix(e.Path, "services[") {
			parts[0] += " " + strconv.Quote(e.Service)
		} else {
			parts = append([]string{"service " + strconv.Quote(e.Service)}, parts...)
		}
	}
	return strings.Join(append(parts, e.Problem), ": ")
}

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

func invalid(path, format string, args ...any) *FieldError {
	return &FieldError{Path: path, Problem: fmt.Sprintf(format, args...)}
}

// under returns e with its path inside that of an enclosing field.
func (e *FieldError) under(path, service string) *FieldError {
	return &FieldError{Path: path + "." + e.Path, Service: service, Problem: e.Problem}
}

// Key is what the kernel knows the service by.
func (s *Service) Key() dataplane.ServiceKey {
	return dataplane.ServiceKey{Address: s.Address, Port: s.Port, Protocol: s.Protocol}
}

// clone returns a copy that shares nothing with s.
func (s *Service) clone() Service {
	c := *s
	c.Mode = clonePointer(s.Mode)
	c.Probe = clonePointer(s.Probe)
	c.Selection = s.Selection.clone()
	c.Backends = slices.Clone(s.Backends)
	for i := range c.Backends {
		c.Backends[i].Weight = clonePointer(c.Backends[i].Weight)
		c.Backends[i].Probe = clonePointer(c.Backends[i].Probe)
	}
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// complete fills in what is open, then checks everything that can be checked on one service alone.
func (s *Service) complete(d Defaults) *FieldError {
	s.Address = s.Address.Unmap()
	if s.Protocol == 0 {
		s.Protocol = dataplane.ProtocolTCP
	}
	if s.Mode == nil {
		s.Mode = new(d.Mode)
	}
	if err := checkAddress(s.Address); err != nil {
		return err
	}
	if s.Name == "" {
		s.Name = defaultName(s.Key())
	}
	if s.Probe != nil && *s.Probe == (Probe{}) {
		s.Probe = nil
	}
	if err := s.check(d); err != nil {
		return err
	}
	s.completeBackends()
	return s.checkBackends(d)
}

func (s *Service) check(d Defaults) *FieldError {
	if !validName(s.Name) {
		return invalid("name", "%q is no name: lower-case letters, digits, '.' and '-', at most %d, no address", s.Name, maxNameLength)
	}
	if _, err := s.Protocol.MarshalText(); err != nil {
		return invalid("protocol", "%v (known: tcp, udp, sctp)", err)
	}
	if _, err := s.Mode.MarshalText(); err != nil {
		return invalid("mode", "%v (known: nat, l2, ipip, gue)", err)
	}
	if s.Probe != nil {
		if err := s.Probe.check(); err != nil {
			return err.under("probe", "")
		}
	}
	if len(s.Backends) == 0 { // with backends, what these have in the end counts
		if err := s.probe(d, nil).checkSpec(); err != nil {
			return err.under("probe", "")
		}
	}
	if err := s.Health.check(); err != nil {
		return err.under("health", "")
	}
	if err := s.Load.check(); err != nil {
		return err.under("load", "")
	}
	if err := s.Scaling.check(s.Load != Load{}); err != nil {
		return err.under("scaling", "")
	}
	return s.checkSelection()
}

// completeBackends fills in the ports before the names, because these may contain them.
func (s *Service) completeBackends() {
	sharing := map[netip.Addr]int{}
	for i := range s.Backends {
		b := &s.Backends[i]
		b.Address = b.Address.Unmap()
		sharing[b.Address]++
		if b.Port == 0 {
			b.Port = s.Port
		}
		if b.Weight == nil {
			b.Weight = new(DefaultWeight)
		}
		if b.State == "" {
			b.State = StateUp
		}
	}
	for i := range s.Backends {
		if b := &s.Backends[i]; b.Name == "" {
			b.Name = b.defaultName(sharing[b.Address] > 1)
		}
	}
}

// defaultName is the name of a backend that was given none.
func (b *Backend) defaultName(withPort bool) string {
	if withPort && b.Port != 0 {
		return netip.AddrPortFrom(b.Address, b.Port).String()
	}
	return b.Address.String()
}

func (s *Service) checkBackends(d Defaults) *FieldError {
	names := make(map[string]int, len(s.Backends))
	places := make(map[netip.AddrPort]int, len(s.Backends))
	probes := s.probes(d)
	for i := range s.Backends {
		b := &s.Backends[i]
		path := fmt.Sprintf("backends[%d]", i)
		if err := b.check(s); err != nil {
			return err.under(path, "")
		}
		if err := s.checkProbe(b, probes(b), path); err != nil {
			return err
		}
		if other, used := names[b.Name]; used {
			return invalid(path+".name", "%q is also the name of backends[%d]", b.Name, other)
		}
		place := netip.AddrPortFrom(b.Address, b.Port)
		if other, used := places[place]; used {
			return invalid(path+".address", "%s is also that of backends[%d]", b.defaultName(true), other)
		}
		names[b.Name], places[place] = i, i
	}
	return s.checkReferences()
}

func (b *Backend) check(s *Service) *FieldError {
	if err := checkAddress(b.Address); err != nil {
		return err
	}
	own := b.Name == b.defaultName(false) || b.Name == b.defaultName(true)
	switch {
	case b.Address == s.Address:
		return invalid("address", "%s is the service's own", b.Address)
	case b.Address.Is4() != s.Address.Is4() && !s.Mode.Encapsulates():
		return invalid("address", "%s is not of the family of the service's %s, which only modes ipip and gue allow", b.Address, s.Address)
	case b.Port != s.Port && *s.Mode != dataplane.ModeNAT:
		return invalid("port", "%d is not the service's %d, which only mode nat allows", b.Port, s.Port)
	case *b.Weight < 0 || *b.Weight > MaxWeight:
		return invalid("weight", "%d is not within 0..%d", *b.Weight, MaxWeight)
	case b.State != StateUp && b.State != StateDraining && b.State != StateDown && b.State != StateStandby:
		return invalid("state", "%q is no state (known: up, draining, down, standby)", b.State)
	case b.Zone != "" && !validName(b.Zone):
		return invalid("zone", "%q is no name: lower-case letters, digits, '.' and '-', at most %d", b.Zone, maxNameLength)
	case b.Rack != "" && !validName(b.Rack):
		return invalid("rack", "%q is no name: lower-case letters, digits, '.' and '-', at most %d", b.Rack, maxNameLength)
	case !own && !validName(b.Name):
		return invalid("name", "%q is no name: lower-case letters, digits, '.' and '-', at most %d, no address but its own", b.Name, maxNameLength)
	}
	return b.checkSelection(s)
}

func checkAddress(a netip.Addr) *FieldError {
	switch {
	case !a.IsValid():
		return invalid("address", "is missing")
	case a.Zone() != "":
		return invalid("address", "%s has a zone, which is not supported", a)
	case a.IsUnspecified() || a.IsMulticast():
		return invalid("address", "%s is not the address of one host", a)
	}
	return nil
}

// One label or several; backend names follow the same rule as service names.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// validName keeps names and addresses apart, because a service or a backend can be called by either.
func validName(name string) bool {
	_, notAddress := netip.ParseAddr(name)
	return len(name) <= maxNameLength && namePattern.MatchString(name) && notAddress != nil
}

// defaultName returns for example "tcp-10.0.0.1-80", "udp-2001-db8--1-53" or, for every port, "tcp-10.0.0.1-any".
func defaultName(k dataplane.ServiceKey) string {
	port := "any"
	if k.Port != 0 {
		port = strconv.Itoa(int(k.Port))
	}
	return k.Protocol.String() + "-" + strings.ReplaceAll(k.Address.String(), ":", "-") + "-" + port
}

// ParseAddress reads an address with or without a port: "10.0.0.1", "10.0.0.1:80", "2001:db8::1",
// "[2001:db8::1]" or "[2001:db8::1]:80". Without a port it returns 0.
func ParseAddress(text string) (netip.Addr, uint16, error) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return a.Unmap(), 0, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap(), ap.Port(), nil
	}
	return netip.Addr{}, 0, fmt.Errorf("%q is no address such as 10.0.0.1, 10.0.0.1:80 or [2001:db8::1]:80", text)
}
