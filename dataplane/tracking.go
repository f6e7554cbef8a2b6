package dataplane

import (
	"fmt"
	"sync/atomic"
)

// Tracking says which flows of a service are remembered.
type Tracking uint8

// The kinds of tracking.
const (
	TrackingDefault    Tracking = iota // TrackingJustEnough where that is possible, otherwise TrackingFull
	TrackingFull                       // every flow
	TrackingJustEnough                 // those whose slot does not tell their backend; TCP, not in nat mode
	TrackingNone                       // none: a change of the backends moves connections; TCP, not in nat mode
)

var trackingNames = names[Tracking]{
	{TrackingDefault, "default"}, {TrackingFull, "full"}, {TrackingJustEnough, "just-enough"}, {TrackingNone, "none"},
}

// String returns for example "just-enough".
func (t Tracking) String() string { return trackingNames.text(t) }

// MarshalText returns String.
func (t Tracking) MarshalText() ([]byte, error) { return trackingNames.marshal(t, "tracking") }

// UnmarshalText accepts "default", "full", "just-enough" and "none".
func (t *Tracking) UnmarshalText(text []byte) error {
	return trackingNames.unmarshal(t, text, "tracking")
}

// Policy says how the backend of a new flow is chosen.
type Policy uint8

// The policies.
const (
	PolicyMaglev Policy = iota // the one of the flow's slot
	PolicyP2C                  // of two slots' the one with fewer flows in progress, relative to its weight; TCP
)

var policyNames = names[Policy]{{PolicyMaglev, "maglev"}, {PolicyP2C, "p2c"}}

// String returns "maglev" or "p2c".
func (p Policy) String() string { return policyNames.text(p) }

// MarshalText returns String.
func (p Policy) MarshalText() ([]byte, error) { return policyNames.marshal(p, "policy") }

// UnmarshalText accepts "maglev" and "p2c".
func (p *Policy) UnmarshalText(text []byte) error { return policyNames.unmarshal(p, text, "policy") }

func (s *Service) validateTracking() error {
	partial := s.Tracking == TrackingJustEnough || s.Tracking == TrackingNone
	switch {
	case partial && s.Protocol != ProtocolTCP:
		return fmt.Errorf("%w %s: tracking %s is for tcp services", ErrInvalid, s.ServiceKey, s.Tracking)
	case partial && s.Mode == ModeNAT:
		return fmt.Errorf("%w %s: mode nat remembers every flow, so its tracking cannot be %s", ErrInvalid, s.ServiceKey, s.Tracking)
	case s.Policy == PolicyP2C && s.Protocol != ProtocolTCP:
		return fmt.Errorf("%w %s: policy p2c is for tcp services", ErrInvalid, s.ServiceKey)
	case s.Policy == PolicyP2C && s.Tracking == TrackingNone:
		return fmt.Errorf("%w %s: policy p2c remembers flows, so its tracking cannot be none", ErrInvalid, s.ServiceKey)
	}
	return nil
}

// tracking is the kind in force.
func (s *Service) tracking() Tracking {
	switch {
	case s.Protocol != ProtocolTCP || s.Mode == ModeNAT:
		return TrackingFull
	case s.Tracking != TrackingDefault:
		return s.Tracking
	}
	return TrackingJustEnough
}

// hasTransitions tells whether slots leave flows that are not remembered their backend. That needs a protocol
// whose packets tell the first of a flow.
func (s *Service) hasTransitions() bool {
	return s.Protocol == ProtocolTCP && s.Mode != ModeNAT && s.tracking() != TrackingNone
}

// allTrackingFlags are the flags of a service that are about which flows are remembered.
const allTrackingFlags = balancerServiceFlagsSERVICE_JUST_ENOUGH | balancerServiceFlagsSERVICE_UNTRACKED | balancerServiceFlagsSERVICE_P2C

func (s *Service) trackingFlags() (flags balancerServiceFlags) {
	switch s.tracking() {
	case TrackingJustEnough:
		flags = balancerServiceFlagsSERVICE_JUST_ENOUGH
	case TrackingNone:
		flags = balancerServiceFlagsSERVICE_UNTRACKED
	}
	if s.Policy == PolicyP2C {
		flags |= balancerServiceFlagsSERVICE_P2C
	}
	return flags
}

// trackingFlags are those in force. d.mu must be held.
func (d *Dataplane) trackingFlags(st *serviceState) balancerServiceFlags {
	return d.services.items[st.index].Flags & allTrackingFlags
}

// trackingStatus says what is known of the flows of st without looking at its slots. d.mu must be held.
func (d *Dataplane) trackingStatus(st *serviceState) TrackingStatus {
	status := TrackingStatus{Kind: TrackingFull, Remembered: st.counted}
	switch flags := d.trackingFlags(st); {
	case flags&balancerServiceFlagsSERVICE_JUST_ENOUGH != 0:
		status.Kind = TrackingJustEnough
	case flags&balancerServiceFlagsSERVICE_UNTRACKED != 0:
		status.Kind = TrackingNone
	}
	now := tick()
	for _, set := range st.sets {
		for _, since := range set.since {
			if since != 0 {
				status.OldestSeconds = max(status.OldestSeconds, int(durationOf(now-since).Seconds()))
			}
		}
	}
	return status
}

// slotsDecide tells whether a stable slot decides without a look at what is remembered.
func slotsDecide(flags balancerServiceFlags) bool {
	return flags&allTrackingFlags == balancerServiceFlagsSERVICE_JUST_ENOUGH
}

// remembersAll tells whether every flow is remembered as soon as it is seen.
func remembersAll(flags balancerServiceFlags) bool {
	return flags&(balancerServiceFlagsSERVICE_JUST_ENOUGH|balancerServiceFlagsSERVICE_UNTRACKED) == 0
}

// track has the program remember what s asks for, when the tables are there that go with it. d.mu must be held.
func (d *Dataplane) track(st *serviceState, s Service) {
	record := &d.services.items[st.index]
	before, after := d.trackingFlags(st), s.trackingFlags()
	if before == after {
		return
	}
	if slotsDecide(after) {
		st.agesSince = tick()
	}
	if !remembersAll(before) {
		st.fullSince = tick()
	}
	for _, b := range st.backends {
		// While slots decided alone, the flows of one that is down may have been opened again elsewhere, see takeBack.
		if after&balancerServiceFlagsSERVICE_UNTRACKED != 0 || b.down && slotsDecide(before) {
			d.forgetFlows(b.index)
		}
		if after&balancerServiceFlagsSERVICE_P2C == 0 {
			atomic.StoreInt64(&d.loads.items[b.index].Active, 0)
		}
	}
	options := *record
	options.Flags = options.Flags&^allTrackingFlags | after
	storeOptions(record, options)
}

// takeBack has the flows of a backend stay with it. Those that were remembered before it was down may have been
// opened again elsewhere, where stable slots did not look at what is remembered. d.mu must be held.
func (d *Dataplane) takeBack(st *serviceState, s Service, b Backend) {
	state := st.backends[b.endpoint()]
	if state.down && (slotsDecide(d.trackingFlags(st)) || slotsDecide(s.trackingFlags())) {
		d.forgetFlows(state.index)
	}
	atomic.StoreUint32(&d.loads.items[state.index].Weight, uint32(b.Weight))
	d.setServing(state.index, true)
}

// setDraining has the program note when the flows of a backend are seen while it takes no new ones, and count
// none that are lost. d.mu must be held.
func (d *Dataplane) setDraining(b *backendState) {
	record := &d.backends.items[b.index]
	if b.down {
		atomic.StoreInt64(&d.loads.items[b.index].Active, 0)
	}
	if b.down || b.weight > 0 {
		record.Flags &^= balancerBackendFlagsBACKEND_DRAINING
	} else if record.Flags&balancerBackendFlagsBACKEND_DRAINING == 0 {
		record.Flags |= balancerBackendFlagsBACKEND_DRAINING
		b.drainingSince = tick()
	}
}
