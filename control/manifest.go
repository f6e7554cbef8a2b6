package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/sluicelb/sluice/dataplane"
)

// serviceFile is a Service as people write it: the address may carry the port.
type serviceFile struct {
	Name     string                 `json:"name"`
	Address  endpoint               `json:"address"`
	Port     *uint16                `json:"port"`
	Protocol dataplane.Protocol     `json:"protocol"`
	Mode     *dataplane.Mode        `json:"mode"`
	Probe    *Probe                 `json:"probe"`
	Health   Health                 `json:"health"`
	Load     Load                   `json:"load"`
	Scaling  Scaling                `json:"scaling"`
	Hash     dataplane.Hash         `json:"hash"`
	ClampMSS dataplane.MSS          `json:"clamp-mss"`
	QUIC     dataplane.QUIC         `json:"quic"`
	Limit    dataplane.Limit        `json:"limit"`
	Policy   dataplane.Policy       `json:"policy"`
	Tracking dataplane.Tracking     `json:"tracking"`
	Sources  []dataplane.SourceRule `json:"sources"`
	Backends []backendFile          `json:"backends"`
}

type backendFile struct {
	Name     string             `json:"name"`
	Address  endpoint           `json:"address"`
	Port     *uint16            `json:"port"`
	Weight   *int               `json:"weight"`
	State    State              `json:"state"`
	Probe    *Probe             `json:"probe"`
	Set      string             `json:"set"`
	ServerID dataplane.ServerID `json:"server-id"`
	MAC      MAC                `json:"mac"`
	Zone     string             `json:"zone"`
	Rack     string             `json:"rack"`
	Order    string             `json:"order"`
}

// endpoint is an address with or without a port.
type endpoint struct {
	address netip.Addr
	port    uint16
}

// UnmarshalText accepts what ParseAddress does.
func (e *endpoint) UnmarshalText(text []byte) (err error) {
	e.address, e.port, err = ParseAddress(string(text))
	return err
}

// portOr returns the endpoint's port, unless the key "port" has it.
func (e endpoint) portOr(port *uint16) (uint16, *FieldError) {
	if port == nil {
		return e.port, nil
	}
	if e.port != 0 && e.port != *port {
		return 0, invalid("port", "%d contradicts the address's %d", *port, e.port)
	}
	return *port, nil
}

// ParseManifest reads services and planned events from YAML or JSON; name is the file's, for errors. Services are returned
// as written, without defaults, but checked with them. An error names file, line, column and field, and
// what is allowed; it is an ErrInvalid.
func ParseManifest(name string, data []byte) (Manifest, error) {
	d, err := parseYAML(name, data)
	if err != nil {
		return Manifest{}, err
	}
	var file struct {
		Services []serviceFile  `json:"services"`
		Events   []PlannedEvent `json:"events"`
	}
	if problem := d.decode(&file); problem != nil {
		return Manifest{}, d.manifestError(problem)
	}
	// An empty file is more likely an accident than the wish to have nothing, which is "services: []".
	if file.Services == nil && file.Events == nil {
		return Manifest{}, tag(ErrInvalid, `%s: the key "services" is missing`, name)
	}
	manifest := Manifest{Services: make([]Service, len(file.Services)), Events: file.Events}
	for i := range file.Services {
		service, problem := file.Services[i].service()
		if problem != nil {
			return Manifest{}, d.manifestError(problem.under(fmt.Sprintf("services[%d]", i), file.Services[i].Name))
		}
		manifest.Services[i] = service
	}
	checked := manifest.clone()
	if problem := checked.complete(builtinDefaults); problem != nil {
		return Manifest{}, d.manifestError(problem)
	}
	return manifest, nil
}

func (d *document) manifestError(problem *FieldError) error {
	return tag(ErrInvalid, "%s: %v", d.at(problem.Path), problem)
}

func (f *serviceFile) service() (Service, *FieldError) {
	port, err := f.Address.portOr(f.Port)
	if err != nil {
		return Service{}, err
	}
	s := Service{
		Name: f.Name, Address: f.Address.address, Port: port, Protocol: f.Protocol, Mode: f.Mode, Probe: f.Probe, Health: f.Health, Load: f.Load, Scaling: f.Scaling,
		Selection: Selection{Hash: f.Hash, ClampMSS: f.ClampMSS, QUIC: f.QUIC, Limit: f.Limit, Policy: f.Policy, Tracking: f.Tracking, Sources: f.Sources},
		Backends:  make([]Backend, len(f.Backends)),
	}
	for i, b := range f.Backends {
		port, err := b.Address.portOr(b.Port)
		if err != nil {
			return Service{}, err.under(fmt.Sprintf("backends[%d]", i), "")
		}
		s.Backends[i] = Backend{
			Name: b.Name, Address: b.Address.address, Port: port, Weight: b.Weight, State: b.State, Probe: b.Probe,
			Set: b.Set, ServerID: b.ServerID, MAC: b.MAC, Zone: b.Zone, Rack: b.Rack, Order: b.Order,
		}
	}
	return s, nil
}

// clone returns a copy that shares nothing with m.
func (m Manifest) clone() Manifest {
	c := Manifest{Services: make([]Service, len(m.Services)), Events: slices.Clone(m.Events)}
	for i := range m.Services {
		c.Services[i] = m.Services[i].clone()
	}
	return c
}

// complete fills in what is open, checks every service and event, and that no two have the same name or key.
func (m Manifest) complete(d Defaults) *FieldError {
	names := make(map[string]int, len(m.Services))
	keys := make(map[dataplane.ServiceKey]int, len(m.Services))
	for i := range m.Services {
		s := &m.Services[i]
		path := fmt.Sprintf("services[%d]", i)
		if err := s.complete(d); err != nil {
			return err.under(path, s.Name)
		}
		if other, used := names[s.Name]; used {
			return invalid("name", "is also that of services[%d]", other).under(path, s.Name)
		}
		if other, used := keys[s.Key()]; used {
			return invalid("address", "%s is also that of services[%d]", s.Key(), other).under(path, s.Name)
		}
		names[s.Name], keys[s.Key()] = i, i
	}
	return m.completeEvents()
}

// Minimal returns the services without what their defaults say anyway, sorted by name, and the events likewise. Applied, it
// changes nothing. The mode is always written, because its default is the daemon's.
func (m Manifest) Minimal() Manifest {
	c := m.clone()
	slices.SortFunc(c.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	for i := range c.Services {
		c.Services[i].minimize()
	}
	sortEvents(c.Events)
	for i := range c.Events {
		if e := &c.Events[i]; e.Name == e.defaultName() {
			e.Name = ""
		}
	}
	return c
}

func (s *Service) minimize() {
	sharing := map[netip.Addr]int{}
	for _, b := range s.Backends {
		sharing[b.Address]++
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.Name == b.defaultName(sharing[b.Address] > 1) {
			b.Name = ""
		}
		if b.Port == s.Port {
			b.Port = 0
		}
		if b.Weight != nil && *b.Weight == DefaultWeight {
			b.Weight = nil
		}
		if b.State == StateUp {
			b.State = ""
		}
	}
	if s.Name == defaultName(s.Key()) {
		s.Name = ""
	}
	if s.Protocol == dataplane.ProtocolTCP {
		s.Protocol = 0
	}
}

// MarshalYAML returns the minimal manifest as YAML, which ParseManifest reads. It is made from JSON, because the encoder of
// YAML takes an address for empty.
func (m Manifest) MarshalYAML() ([]byte, error) {
	text, err := json.Marshal(m.Minimal())
	if err != nil {
		return nil, err
	}
	var tree yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &tree, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(tree, yaml.IndentSequence(true))
}
