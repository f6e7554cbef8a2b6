package dataplane

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Slots in transition: how a table follows another one without moving a connection whose backend still serves.
//
// What a slot's flows belong to that are not remembered is its owner: the current backend while the slot is
// stable, the previous one while it is in transition. A rewrite gives slots another current backend and leaves
// them their owner while that serves.

// defaultIdle is how long a connection may be silent and still keeps its backend through a transition. It is
// longer than middle boxes usually allow (RFC 5382 asks for 2 h 4 min, many have 5 to 15 min).
const defaultIdle = 15 * time.Minute

// ticksOf converts a duration to ticks of 2^30 ns (bpf/clock.h), rounded up.
func ticksOf(duration time.Duration) uint32 { return uint32((duration + 1<<30 - 1) >> 30) }

// durationOf converts ticks to a duration.
func durationOf(ticks uint32) time.Duration { return time.Duration(ticks) << 30 }

// tick is the present tick, as programs count them.
func tick() uint32 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &now) // fails only for a clock that is not there
	return uint32(now.Nano() >> 30)
}

// kept tells by index which backends keep their flows; nil when the service's slots have no transitions.
type kept []bool

// passage is what the flows that there are ask of new tables.
type passage struct {
	kept       kept
	partial    bool // some flows are not remembered: after a change of size, only the older table can tell their backend
	remembered bool // some flows belong elsewhere than their slots say, and from now on stable slots decide alone
}

// passage says what a change of st to s has to respect, valid until the next call. d.mu must be held.
func (d *Dataplane) passage(st *serviceState, s Service) (p passage) {
	if !s.hasTransitions() {
		return p
	}
	before, after := d.trackingFlags(st), s.trackingFlags()
	p.partial = !remembersAll(before) || st.fullSince != 0 && tick()-st.fullSince <= ticksOf(d.options.IdleTimeout)
	p.remembered = slotsDecide(after) && !slotsDecide(before) && before&balancerServiceFlagsSERVICE_UNTRACKED == 0
	d.kept = slices.Grow(d.kept[:0], len(d.backends.items))[:len(d.backends.items)]
	clear(d.kept)
	for _, b := range s.Backends {
		d.kept[st.backends[b.endpoint()].index] = !b.Down
	}
	p.kept = d.kept
	return p
}

// owner is the backend of the flows of a slot that are not remembered, 0 when that serves no more.
func (k kept) owner(slot slot) uint32 {
	if owner := slot.owner(); k != nil && k[owner] {
		return owner
	}
	return 0
}

// successor is what becomes of a slot that gets another current backend, or the same again. A slot in
// transition stays there, since flows of it are remembered: when its owner serves no more the new backend takes
// its place.
func (k kept) successor(old slot, next uint32) slot {
	owner := k.owner(old)
	switch {
	case old.previous() == 0 && (owner == 0 || owner == next):
		return newSlot(next, 0)
	case owner == 0:
		return newSlot(next, cmp.Or(next, old.previous()))
	}
	return newSlot(next, owner)
}

// merged is a slot that takes the place of several of a table of another size. When their owners differ, only
// that table tells them apart, and the packets that had to ask it are remembered: so afterwards, without it,
// nobody belongs to the previous backend.
func (k kept) merged(old []slot, next uint32) slot {
	owner, stable := k.owner(old[0]), true
	for _, slot := range old {
		if k.owner(slot) != owner {
			return newSlot(next, next)
		}
		stable = stable && slot.previous() == 0
	}
	if stable && (owner == 0 || owner == next) {
		return newSlot(next, 0)
	}
	return newSlot(next, cmp.Or(owner, next))
}

// overlapping returns the first slot of a table that shares hashes with slot i of one of another size, and the
// slot after the last.
func overlapping(i, size, other uint32) (first, end uint32) {
	lowest := (uint64(i)<<32 + uint64(size) - 1) / uint64(size)
	above := (uint64(i+1)<<32 + uint64(size) - 1) / uint64(size)
	return uint32(lowest * uint64(other) >> 32), uint32((above-1)*uint64(other)>>32) + 1
}

// hasOwners tells whether flows that are not remembered may belong to a table.
func (d *Dataplane) hasOwners(table region, k kept) bool {
	return slices.ContainsFunc(d.slots.of(table), func(slot slot) bool { return k.owner(slot) != 0 })
}

// sizeOf is the number of slots of a set's next table. It stays while flows wait in the older one, of which there
// is one only, and for as long as backends serve that take no new flows. d.mu must be held.
func (d *Dataplane) sizeOf(set *setState, backends []Backend, k kept) int {
	size := d.tableSize(backends)
	switch {
	case set == nil || k == nil || set.table.size == 0:
		return size
	case set.older.size > 0 && size > 0, size == 0 && (d.hasOwners(set.table, k) || d.hasOwners(set.older, k)):
		return int(set.table.size)
	}
	return size
}

// mustPass tells whether a set needs another table even if its backends stay the same: flows begin to be looked
// up in slots in transition only, or a slot waits for flows that are lost. d.mu must be held.
func (d *Dataplane) mustPass(set *setState, p passage) bool {
	if p.remembered && set.table.size > 0 {
		return true
	}
	if p.kept == nil {
		return set.since != nil
	}
	return set.since != nil && slices.ContainsFunc(d.slots.of(set.table), func(slot slot) bool {
		return slot.previous() != 0 && slot.current() != 0 && p.kept.owner(slot) == 0
	})
}

// follow writes a table into its region, where no program can see it yet, as the successor of the set's.
func (d *Dataplane) follow(p *preparedTable, built []uint32) {
	now, old, table := tick(), d.slots.of(p.set.table), d.slots.of(p.table)
	sameSize := len(old) == len(built)
	for i, next := range built {
		slot, since, seen := newSlot(next, 0), now, uint16(now)
		switch {
		case p.passage.kept == nil || len(old) == 0:
		case sameSize:
			slot = p.passage.kept.successor(old[i], next)
			if old[i].previous() != 0 {
				since, seen = p.set.since[i], old[i].load().seen()
			}
		case p.keepsOlder:
			first, end := overlapping(uint32(i), p.table.size, p.set.table.size)
			slot = p.passage.kept.merged(old[first:end], next)
		}
		if p.passage.remembered && slot.previous() == 0 && len(old) > 0 {
			slot = newSlot(next, next)
			if sameSize {
				slot = newSlot(next, cmp.Or(next, old[i].current()))
			}
		}
		table[i] = slot.at(seen)
		if slot.previous() == 0 {
			continue
		}
		if p.since == nil {
			p.since = make([]uint32, len(built))
		}
		p.since[i] = since
	}
}

// replaceTable has packets see a prepared table, at once. d.mu must be held.
func (d *Dataplane) replaceTable(p *preparedTable) {
	set, old := p.set, p.set.table
	if p.passage.kept == nil {
		d.dropOlder(set)
	}
	if p.keepsOlder {
		d.keepOlder(set)
	}
	atomic.StoreUint64(&d.services.items[set.index].Table, p.table.word())
	set.table, set.members, set.since = p.table, p.members, p.since
	set.version++
	if !p.keepsOlder {
		d.retire(func() {
			d.mergeTicks(old, p.table)
			d.regions.release(old)
		})
	}
	d.dropLostOwners(set, p.passage.kept)
}

// mergeTicks brings along what packets noted that saw the old table while it was replaced: in its slots in transition,
// whose ticks the table has taken over. The tick of a stable slot says nothing.
func (d *Dataplane) mergeTicks(old, table region) {
	if d.slots.isClosed() || old.size != table.size {
		return
	}
	before, after := d.slots.of(old), d.slots.of(table)
	for i := range after {
		was := before[i].load()
		if was.previous() != 0 && int16(was.seen()-after[i].load().seen()) > 0 {
			after[i].note(was.seen())
		}
	}
}

// keepOlder keeps the table of a set beside the one of another size that is about to replace it. A program that
// sees the new one must see this one too, hence the wait: two loads of a program may be done in any order.
func (d *Dataplane) keepOlder(set *setState) {
	record := &d.olders.items[set.index]
	atomic.StoreUint32(&record.Seen, tick())
	atomic.StoreUint64(&record.Table, set.table.word())
	if err := d.grace.wait(); err != nil {
		d.log.Error("packets may miss a table for a moment", "error", err)
	}
	set.older = set.table
}

// dropOlder ends the older table of a set. d.mu must be held.
func (d *Dataplane) dropOlder(set *setState) {
	if set.older.size == 0 {
		return
	}
	atomic.StoreUint64(&d.olders.items[set.index].Table, 0)
	d.retireRegion(set.older)
	set.older = region{}
}

// dropOlders makes room: a table that cannot be built is worse than connections that move because the size of
// theirs has changed. d.mu must be held.
func (d *Dataplane) dropOlders() {
	for _, st := range d.state {
		for _, set := range st.sets {
			d.dropOlder(set)
		}
	}
}

// dropLostOwners has the older table of a set not name backends whose flows are lost: they may come back, or
// their indices be given to others.
func (d *Dataplane) dropLostOwners(set *setState, k kept) {
	older := d.slots.of(set.older)
	for i := range older {
		if k.owner(older[i]) == 0 {
			older[i].store(0)
		}
	}
}

// forgetFlows has nothing that is remembered of a backend's flows be true any more.
func (d *Dataplane) forgetFlows(index uint32) { d.backends.items[index].Generation++ }

// adoptTable adopts the tables of a set that an earlier process left, and says whether they are free. How long
// its slots have been in transition is not known: since now. d.mu must be held.
func (d *Dataplane) adoptTable(set *setState) bool {
	set.table = regionOf(d.services.items[set.index].Table)
	set.older = regionOf(d.olders.items[set.index].Table)
	if set.older == set.table { // it ended before it had replaced the table
		set.older = region{}
		d.olders.items[set.index] = balancerOlder{}
	}
	for _, table := range []region{set.table, set.older} {
		if table.size > 0 && !d.regions.reserve(table) {
			return false
		}
	}
	now := tick()
	for i, slot := range d.slots.of(set.table) {
		if slot.previous() == 0 {
			continue
		}
		if set.since == nil {
			set.since = make([]uint32, set.table.size)
		}
		set.since[i] = now
	}
	return true
}
