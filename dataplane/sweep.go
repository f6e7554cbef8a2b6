package dataplane

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
)

const (
	// sweepInterval is between two looks at the slots in transition.
	sweepInterval = 15 * time.Second
	// countEvery is how many of them pass until the remembered flows are read although no transition asks for it.
	countEvery = 4
	// transientIdle is how long a remembered flow that is opening or closing may be silent before it is over: as
	// long as in nat mode (bpf/nat.h).
	transientIdle = 60 * time.Second
	// forgetAtOnce is how many flows are forgotten before others may have the dataplane: some milliseconds.
	forgetAtOnce = 1024
)

func (d *Dataplane) sweepInBackground() {
	timer := time.NewTicker(sweepInterval)
	defer timer.Stop()
	for round := 0; ; round++ {
		select {
		case <-d.stop:
			return
		case <-timer.C:
		}
		if err := d.sweep(round%countEvery == 0); err != nil {
			d.log.Error("cannot sweep the remembered flows; slots stay in transition", "error", err)
		}
		d.decayLoads(sweepInterval)
	}
}

// sweep ends the transitions that nobody needs any more: no packet went to the previous backend of the slot for
// the idle timeout, and, where stable slots decide alone, every remembered flow that is alive belongs to the
// current one. count has it read the flows also when nothing depends on them.
func (d *Dataplane) sweep(count bool) error {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	s := d.newSweep()
	if s.looks || count {
		// What a program remembers that saw an earlier table is there then.
		if err := d.grace.wait(); err != nil {
			return err
		}
		if err := s.read(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.finish(s.looks || count)
	return nil
}

// sweep is one look at the slots in transition.
type sweep struct {
	dataplane *Dataplane
	now, idle uint32 // ticks
	sets      map[uint32]*sweptSet
	looks     bool        // at the remembered flows
	counts    map[int]int // of remembered flows, by the service's index
}

// sweptSet is a set of backends as it was when the sweep began.
type sweptSet struct {
	state   *setState
	service uint32
	version int
	forgets bool // flows that nobody needs: not all are remembered
	decides bool // see slotsDecide
	ages    uint32
	slots   []slot
	blocked []bool // slots that flows need
}

func (d *Dataplane) newSweep() *sweep {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &sweep{
		dataplane: d, now: tick(), idle: ticksOf(d.options.IdleTimeout),
		sets: make(map[uint32]*sweptSet), counts: make(map[int]int),
	}
	for _, st := range d.state {
		flags := d.trackingFlags(st)
		forgets, decides := flags&balancerServiceFlagsSERVICE_JUST_ENOUGH != 0, slotsDecide(flags)
		for _, set := range st.sets {
			if set.since == nil && (!forgets || st.counted == 0) {
				continue
			}
			s.looks = s.looks || decides
			s.sets[set.index] = &sweptSet{
				state: set, service: st.index, version: set.version, forgets: forgets, decides: decides, ages: st.agesSince,
				slots:   slices.Clone(d.slots.of(set.table)),
				blocked: make([]bool, set.table.size),
			}
		}
	}
	return s
}

// read looks at all remembered flows.
func (s *sweep) read() error {
	o := &s.dataplane.objects
	return errors.Join(
		sweepFlows(s, flows[balancerTuple4, balancerFlow4]{o.Flows4, headOf4}),
		sweepFlows(s, flows[balancerTuple6, balancerFlow6]{o.Flows6, headOf6}))
}

// flows is a map of remembered flows.
type flows[K, V comparable] struct {
	*ebpf.Map
	head func(*V) (*balancerFlow, uint32) // and the hash that chose the slot, in the modes that are not nat
}

func headOf4(f *balancerFlow4) (*balancerFlow, uint32) { return &f.Head, f.Source }
func headOf6(f *balancerFlow6) (*balancerFlow, uint32) { return &f.Head, f.Source[0] }

// sweepFlows counts the flows of a family, notes the slots that they need, and forgets those that nobody needs.
func sweepFlows[K, V comparable](s *sweep, f flows[K, V]) error {
	return eachBatch(f.Map, func(keys []K, values []V) error {
		var unneeded []int
		for i := range values {
			if s.isUnneeded(f.head(&values[i])) {
				unneeded = append(unneeded, i)
			}
		}
		for chunk := range slices.Chunk(unneeded, forgetAtOnce) {
			if err := forget(s, f, keys, values, chunk); err != nil {
				return err
			}
		}
		return nil
	})
}

// setOf returns the set that a remembered flow was placed in, nil when all flows are remembered there.
func (s *sweep) setOf(flow *balancerFlow) *sweptSet {
	record := &s.dataplane.backends.items[flow.Backend]
	set := s.sets[uint32(flow.NatPort)] // in union with the set in the modes that are not nat
	if set == nil || !set.forgets || record.Generation != flow.Generation || uint32(record.Service) != set.service {
		return nil
	}
	return set
}

// isUnneeded counts a flow, and tells whether nobody needs it to be remembered: its slot is stable, or the flow
// is over. One that is needed, since it belongs elsewhere than its slot says, blocks the slot.
func (s *sweep) isUnneeded(flow *balancerFlow, hash uint32) bool {
	record := &s.dataplane.backends.items[flow.Backend]
	if record.Generation == flow.Generation {
		s.counts[int(record.Service)]++
	}
	set := s.setOf(flow)
	if set == nil || len(set.slots) == 0 {
		return false
	}
	live := record.Flags&balancerBackendFlagsBACKEND_SERVING != 0 && flow.isLive(set.ages, s.now, s.idle)
	if !set.decides {
		return flow.State == balancerFlowStateFLOW_CLOSING && !live
	}
	slot := set.slotOf(hash)
	if set.slots[slot].previous() == 0 || !live {
		return true
	}
	if flow.Backend != set.slots[slot].current() {
		set.block(hash)
	}
	return false
}

// slotOf is the slot of a hash.
func (set *sweptSet) slotOf(hash uint32) int { return int(uint64(len(set.slots)) * uint64(hash) >> 32) }

// block keeps the slot of a hash in transition.
func (set *sweptSet) block(hash uint32) { set.blocked[set.slotOf(hash)] = true }

// isLive tells whether a flow may still send packets. When it was seen is noted since the tick ages; a flow that was
// seen before that may have been seen until then.
func (f *balancerFlow) isLive(ages, now, idle uint32) bool {
	if f.State != balancerFlowStateFLOW_OPEN {
		idle = min(idle, ticksOf(transientIdle))
	}
	return min(int32(now-f.Seen), int32(now-ages)) < int32(idle)
}

// forget forgets flows, unless their table has been replaced since it was looked at. The lock is held, so that
// none is replaced meanwhile: in a stable slot no program looks at what is remembered, nor changes it.
//
// In a slot in transition the flow that was over may begin again just now. Then what is taken out is another
// than what was seen, and is put back at once: nobody misses it, since a client's second packet follows a
// round trip later.
func forget[K, V comparable](s *sweep, f flows[K, V], keys []K, values []V, chosen []int) error {
	s.dataplane.mu.Lock()
	defer s.dataplane.mu.Unlock()
	for _, i := range chosen {
		flow, hash := f.head(&values[i])
		set := s.setOf(flow)
		if set == nil || set.state.version != set.version {
			continue
		}
		var found V
		err := f.LookupAndDelete(&keys[i], &found)
		if err == nil && found != values[i] {
			set.block(hash)
			err = f.Update(&keys[i], &found, ebpf.UpdateNoExist)
		} else if err == nil {
			s.counts[int(set.service)]--
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && !errors.Is(err, ebpf.ErrKeyExist) {
			return err
		}
	}
	return nil
}

// finish ends what can end. d.mu must be held.
func (s *sweep) finish(counted bool) {
	d := s.dataplane
	if d.slots.isClosed() {
		return
	}
	for _, st := range d.state {
		if counted {
			st.counted = s.counts[int(st.index)]
		}
	}
	for _, swept := range s.sets {
		set := swept.state
		switch {
		case set.version != swept.version || set.since == nil:
		case set.older.size == 0:
			s.endTransitions(swept)
		case int32(s.now-atomic.LoadUint32(&d.olders.items[set.index].Seen)) >= int32(s.idle):
			d.dropOlder(set)
		}
	}
}

// endTransitions makes the slots of a set stable that can be. d.mu must be held.
func (s *sweep) endTransitions(swept *sweptSet) {
	d, set, left := s.dataplane, swept.state, false
	now := tick() + 1 // no packet has noted a later one
	table := d.slots.of(set.table)
	for i := range table {
		slot := table[i].load()
		silent := min(now-set.since[i], uint32(uint16(now)-slot.seen()))
		switch {
		case slot.previous() == 0:
		case silent <= s.idle, swept.blocked[i]:
			left = true
		default:
			table[i].store(newSlot(slot.current(), 0))
			set.since[i] = 0
		}
	}
	if !left {
		set.since = nil
	}
}
