package dataplane

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// Traffic is what has gone to one backend.
type Traffic struct {
	Backend netip.AddrPort
	Counters
	Active int // as in BackendStatus
}

// Traffic returns what has gone to the backends of a service, sorted by address and port; false: the kernel has no such
// service. It does not count slots, so it costs much less than ServiceStatus.
func (d *Dataplane) Traffic(key ServiceKey) ([]Traffic, bool) {
	traffic, states, ok := d.active(key)
	for i, state := range states { // the counters of very many take a while to read
		traffic[i].Counters = d.counters(state.index)
	}
	slices.SortFunc(traffic, func(a, b Traffic) int { return a.Backend.Compare(b.Backend) })
	return traffic, ok
}

// active returns the traffic of a service without the counters, in the order of the states of its backends.
func (d *Dataplane) active(key ServiceKey) (traffic []Traffic, states []*backendState, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[key]
	if st == nil || d.loads.items == nil { // closed
		return nil, nil, false
	}
	for endpoint, b := range st.backends {
		traffic = append(traffic, Traffic{Backend: endpoint, Active: int(max(atomic.LoadInt64(&d.loads.items[b.index].Active), 0))})
		states = append(states, b)
	}
	return traffic, states, true
}
