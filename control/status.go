package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// Status is what the daemon does now.
type Status struct {
	Version    string                `json:"version"`
	Since      time.Time             `json:"since" doc:"When the daemon started"`
	Uptime     Duration              `json:"uptime"`
	PinPath    string                `json:"pin-path"`
	Interfaces []dataplane.Interface `json:"interfaces" nullable:"false"`
	Services   []ServiceStatus       `json:"services" nullable:"false"`
	Reasons    map[string]uint64     `json:"reasons" doc:"Packets that were not forwarded, by reason: pass_ to the host, drop_, or answer_ by Sluice itself"`
	Tables     dataplane.Stats       `json:"tables"`
	Problems   []string              `json:"problems" nullable:"false" doc:"What is wrong now, one sentence each"`
}

// ServiceState says how well a service does as a whole.
type ServiceState string

// The states of a service.
const (
	ServiceOK       ServiceState = "ok"       // every backend that should serve does
	ServiceDegraded ServiceState = "degraded" // some do not
	ServiceFailed   ServiceState = "failed"   // the kernel does not serve it as desired, or no backend takes flows
	ServicePanic    ServiceState = "panic"    // too few backends are up, so all are used
)

// ServiceStatus is what one service does now.
type ServiceStatus struct {
	Name     string             `json:"name"`
	Address  netip.Addr         `json:"address"`
	Port     uint16             `json:"port"`
	Protocol dataplane.Protocol `json:"protocol" enum:"tcp,udp,sctp"`
	Mode     dataplane.Mode     `json:"mode" enum:"nat,l2,ipip,gue"`
	Probe    Probe              `json:"probe" doc:"With the daemon's defaults filled in"`
	Health   Health             `json:"health" doc:"With the daemon's defaults filled in"`
	Load     Load               `json:"load,omitzero"`
	Selection
	State    ServiceState             `json:"state" enum:"ok,degraded,failed,panic"`
	Error    string                   `json:"error,omitempty" doc:"Why the kernel does not serve it as desired"`
	Slots    int                      `json:"slots" doc:"Size of the Maglev tables"`
	Flows    dataplane.TrackingStatus `json:"flows" doc:"Which flows are remembered, and why"`
	Backends []BackendStatus          `json:"backends" nullable:"false"`
}

// Key is what the kernel knows the service by.
func (s *ServiceStatus) Key() dataplane.ServiceKey {
	return dataplane.ServiceKey{Address: s.Address, Port: s.Port, Protocol: s.Protocol}
}

// BackendStatus is what one backend does now.
type BackendStatus struct {
	Name    string            `json:"name"`
	Address netip.Addr        `json:"address"`
	Port    uint16            `json:"port"`
	Weight  int               `json:"weight" doc:"As desired"`
	State   State             `json:"state" enum:"up,draining,down,standby" doc:"As it is, by wish or by health"`
	Set     string            `json:"set,omitempty" doc:"Of backends, that sources send clients to"`
	Cause   string            `json:"cause,omitempty" doc:"Why it is in this state"`
	Since   time.Time         `json:"since,omitzero" doc:"When it came into this state, as far as the daemon knows"`
	NextHop dataplane.NextHop `json:"next-hop"`
	dataplane.Counters
	Share  float64 `json:"share" doc:"Of the slots of its set of backends, 0..1"`
	Active int     `json:"active" doc:"Flows in progress, as far as their ends were seen; with policy p2c"`

	Score   float64      `json:"score" doc:"How well it does, 0..1: the product of the terms"`
	Terms   health.Terms `json:"terms"`
	InForce float64      `json:"in-force" doc:"Share of its weight that it has now, 0..1: score and slow start, in steps"`
	Reasons string       `json:"reasons,omitempty" doc:"What takes from its weight"`

	NotProbed        string   `json:"not-probed,omitempty" doc:"Why this host could not probe it the last time"`
	ProbeSuccess     float64  `json:"probe-success" doc:"Share of the probes that succeeded lately, 0..1"`
	ProbeLatency     Duration `json:"probe-latency" doc:"Geometric mean of the latency of probes; 0 is unknown"`
	Handshake        Duration `json:"handshake" doc:"Geometric mean of the time from a client's SYN to its next packet; 0 is unknown"`
	HandshakesSeen   float64  `json:"handshakes-seen" doc:"How many handshakes the figures rest on"`
	HandshakesFailed float64  `json:"handshakes-failed" doc:"Share of them that were not answered in time, repeated or refused, 0..1"`
	PeersLatency     Duration `json:"peers-latency" doc:"Median of the latencies of the backends that are up"`
	PeersHandshake   Duration `json:"peers-handshake" doc:"Median of their handshake times"`
	Reported         string   `json:"reported,omitempty" doc:"What it says of its load, or why nothing is known of it"`
}

// measure fills in what is known of the backend's health.
func (b *BackendStatus) measure(m health.Measures) {
	b.ProbeSuccess, b.ProbeLatency = m.Success, Duration(m.Latency)
	b.Handshake, b.HandshakesSeen, b.HandshakesFailed = Duration(m.Handshakes.Time), m.Handshakes.Seen, m.Handshakes.Failed
	b.Reported, b.NotProbed = cmp.Or(m.LoadError, m.Load.String()), m.NotProbed
}

// VersionInfo says which program answers.
type VersionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform" doc:"For example linux/amd64"`
}

// ApplyRequest is a manifest and what to do with it.
type ApplyRequest struct {
	Services []Service      `json:"services" nullable:"false"`
	Events   []PlannedEvent `json:"events,omitzero" doc:"All that are planned for the services that are listed, here or there. Default: they stay"`
	Prune    bool           `json:"prune,omitempty" doc:"Remove the services, and with a list of events the events, that are not listed"`
	DryRun   bool           `json:"dry-run,omitempty" doc:"Only say what would change"`
}

// ApplyResult says what an ApplyRequest changed, or would change.
type ApplyResult struct {
	Changes []Change `json:"changes" nullable:"false"`
	Kept    []string `json:"kept" nullable:"false" doc:"Services that are not listed and stay"`
}

// Action is what happens to an object.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionRemove Action = "remove"
)

// Kind is a kind of object.
type Kind string

// The kinds of objects.
const (
	KindService Kind = "service"
	KindBackend Kind = "backend"
	KindEvent   Kind = "event" // a planned one
)

// Change is one difference between the desired state before and after.
type Change struct {
	Action Action `json:"action" enum:"create,update,remove"`
	Kind   Kind   `json:"kind" enum:"service,backend,event"`
	Name   string `json:"name" doc:"Of the service, or SERVICE/BACKEND, or SERVICE/EVENT"`
	Detail string `json:"detail,omitempty" doc:"For example: weight 100 -> 50"`
}

// status gathers what the daemon does now.
func (d *Daemon) status() Status {
	status := Status{
		Version:    d.version,
		Since:      d.started,
		Uptime:     Duration(time.Since(d.started).Round(time.Second)),
		PinPath:    d.config.PinPath,
		Interfaces: d.dataplane.Interfaces(),
		Services:   []ServiceStatus{},
		Tables:     d.dataplane.Stats(),
		Problems:   []string{},
	}
	var err error
	if status.Reasons, err = d.dataplane.Reasons(); err != nil {
		status.Problems = append(status.Problems, err.Error())
	}
	for _, name := range d.config.Interfaces {
		if !slices.ContainsFunc(status.Interfaces, func(i dataplane.Interface) bool { return i.Name == name }) {
			status.Problems = append(status.Problems, fmt.Sprintf("interface %s is not attached to; the log says why", name))
		}
	}
	for _, i := range status.Interfaces {
		switch {
		case i.Index == 0:
			status.Problems = append(status.Problems, fmt.Sprintf("interface %s is not attached to: %s", i.Name, i.Reason))
		case !i.Up:
			status.Problems = append(status.Problems, fmt.Sprintf("interface %s is down: no packets come in there", i.Name))
		}
	}
	status.Problems = append(status.Problems, d.reconciler.problems()...)
	manifest := d.store.Manifest()
	for i := range manifest.Services {
		s := d.serviceStatus(&manifest.Services[i])
		status.Services = append(status.Services, s)
		status.Problems = append(status.Problems, s.problems()...)
	}
	status.Problems = append(status.Problems, d.reconciler.remains()...)
	return status
}

func (d *Daemon) serviceStatus(s *Service) ServiceStatus {
	e := d.reconciler.evaluate(s)
	inKernel, _ := d.dataplane.ServiceStatus(s.Key())
	status := ServiceStatus{
		Name: s.Name, Address: s.Address, Port: s.Port, Protocol: s.Protocol, Mode: *s.Mode,
		Probe: s.probe(d.rules.defaults, nil), Health: s.Health.with(d.rules.defaults.Health), Load: s.Load, Selection: s.Selection, Slots: inKernel.Slots, Flows: inKernel.Tracking, Backends: make([]BackendStatus, len(s.Backends)),
	}
	known := make(map[netip.AddrPort]dataplane.BackendStatus, len(inKernel.Backends))
	for _, b := range inKernel.Backends {
		known[netip.AddrPortFrom(b.Address, b.Port)] = b
	}
	slots := make(map[string]int) // of each set's table
	for i := range s.Backends {
		slots[s.Backends[i].Set] += known[s.Backends[i].place()].Slots
	}
	unresolved := false
	for i := range s.Backends {
		b, c := &s.Backends[i], e.backends[i]
		k := known[b.place()]
		status.Backends[i] = BackendStatus{
			Name: b.Name, Address: b.Address, Port: b.Port, Weight: *b.Weight,
			State: c.State, Set: b.Set, Cause: c.Cause, Since: c.Since, NextHop: k.NextHop, Counters: k.Counters, Active: k.Active,
			Score: c.Score, Terms: c.Terms, InForce: c.Factor, Reasons: c.Reasons(),
			PeersLatency: Duration(c.Peers.Latency), PeersHandshake: Duration(c.Peers.Handshake),
		}
		status.Backends[i].measure(d.reconciler.measures(s, b))
		if slots[b.Set] > 0 {
			status.Backends[i].Share = float64(k.Slots) / float64(slots[b.Set])
		}
		unresolved = unresolved || !k.NextHop.Resolved && b.State != StateDown
	}
	failure := d.reconciler.failure(s.Key())
	if failure != nil {
		status.Error = failure.Error()
	}
	status.State = e.serviceState(s, failure, unresolved)
	return status
}

// problems says what is wrong with a service, one sentence each.
func (s *ServiceStatus) problems() []string {
	var problems []string
	add := func(format string, arguments ...any) {
		problems = append(problems, "service "+s.Name+": "+fmt.Sprintf(format, arguments...))
	}
	switch {
	case s.Error != "":
		add("%s", s.Error)
	case len(s.Backends) == 0:
		add("it has no backends: `sluice backend add %s ADDRESS[:PORT]` adds one", s.Name)
	case s.State == ServicePanic:
		add("too few backends are up, so all are used")
	case s.State == ServiceFailed:
		add("no backend takes new flows")
	}
	var unprobed, unresolved []*BackendStatus
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.NotProbed != "" {
			unprobed = append(unprobed, b)
		}
		if b.State != StateDown && !b.NextHop.Resolved {
			unresolved = append(unresolved, b)
		}
	}
	if len(unprobed) > 0 {
		add("backend %s is not probed: %s%s", unprobed[0].Name, unprobed[0].NotProbed, more(unprobed, "that are not probed"))
	}
	if len(unresolved) > 0 {
		first := unresolved[0]
		add("backend %s: %s%s", first.Name, cmp.Or(first.NextHop.Reason, "its next hop is not known yet"), more(unresolved, "without a next hop"))
	}
	return problems
}

// more says how many backends are like the first, which is named.
func more(like []*BackendStatus, how string) string {
	if len(like) < 2 {
		return ""
	}
	return fmt.Sprintf(" (and %d more backends %s)", len(like)-1, how)
}
