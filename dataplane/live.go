package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// ErrUnknown means that nobody notes what is asked for.
var ErrUnknown = errors.New("not known")

// LiveFlows counts the flows that a backend still serves: those of which a packet was seen within idle, 1 s to
// 9 h, and that were not closed before. It reads all remembered flows of the service's family, which takes some
// 0.1 s for half a million, and holds nobody up.
//
// When flows are seen is noted in nat mode, and elsewhere of a backend that drains (weight 0). What it cannot know:
//   - Until the backend has drained for idle, a flow that was silent all the time counts: it may have been seen
//     just before. So the count does not rise, but it begins too high.
//   - Of flows that are not remembered only is known in which slots they are: a slot in which they were seen
//     counts as one.
//   - A client's end counts as the flow's end after 60 s of silence, though what the backend still sends
//     directly to its client is never seen.
//
// 0 means that the last is gone. Returns ErrUnknown with TrackingNone, and for a backend that does not drain.
func (d *Dataplane) LiveFlows(key ServiceKey, backend netip.AddrPort, idle time.Duration) (int, error) {
	c, err := d.newCensus(key, backend, ticksOf(idle))
	if err != nil {
		return 0, err
	}
	if key.Address.Is4() {
		err = count(c, flows[balancerTuple4, balancerFlow4]{d.objects.Flows4, headOf4})
	} else {
		err = count(c, flows[balancerTuple6, balancerFlow6]{d.objects.Flows6, headOf6})
	}
	if err != nil {
		return 0, fmt.Errorf("reading the flows of %s: %w", key, err)
	}
	return c.live, nil
}

// census counts the flows of one backend.
type census struct {
	dataplane       *Dataplane
	index           uint32 // of the backend
	generation      uint16
	now, idle, ages uint32 // as in isLive
	live            int
}

// newCensus counts what the slots tell.
func (d *Dataplane) newCensus(key ServiceKey, backend netip.AddrPort, idle uint32) (*census, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.find(key, backend)
	if err != nil {
		return nil, err
	}
	if d.slots.isClosed() {
		return nil, errors.New("the dataplane is closed")
	}
	st := d.state[key]
	flags := d.trackingFlags(st)
	c := &census{dataplane: d, index: b.index, generation: d.backends.items[b.index].Generation, now: tick(), idle: idle, ages: b.drainingSince}
	switch {
	case flags&balancerServiceFlagsSERVICE_UNTRACKED != 0:
		return nil, fmt.Errorf("the flows of %s are %w: its tracking is none", key, ErrUnknown)
	case st.mode == ModeNAT:
		c.ages = 0
	case d.backends.items[b.index].Flags&balancerBackendFlagsBACKEND_DRAINING == 0:
		return nil, fmt.Errorf("the flows of backend %s of %s are %w: it does not drain", backend, key, ErrUnknown)
	}
	for _, set := range st.sets {
		c.countSlots(set)
	}
	return c, nil
}

// countSlots counts the slots in which flows that are not remembered were seen.
func (c *census) countSlots(set *setState) {
	d, now := c.dataplane, uint16(c.now+1) // no packet has noted a later one
	table := d.slots.of(set.table)
	for i := range table {
		if slot := table[i].load(); slot.previous() == c.index && uint32(now-slot.seen()) <= c.idle {
			c.live++
		}
	}
	if set.older.size == 0 || int32(c.now-atomic.LoadUint32(&d.olders.items[set.index].Seen)) >= int32(c.idle) {
		return
	}
	for _, slot := range d.slots.of(set.older) {
		if slot.owner() == c.index {
			c.live++ // somebody asked that table, for this slot perhaps
			return
		}
	}
}

func count[K, V comparable](c *census, f flows[K, V]) error {
	return eachBatch(f.Map, func(_ []K, values []V) error {
		for i := range values {
			flow, _ := f.head(&values[i])
			if flow.Backend == c.index && flow.Generation == c.generation && flow.isLive(c.ages, c.now, c.idle) {
				c.live++
			}
		}
		return nil
	})
}
