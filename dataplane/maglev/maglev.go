// Package maglev builds weighted Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software
// Network Load Balancer", NSDI 2016, section 3.4). It is pure: a table is a function of the backends, their
// weights and the table's size, whatever the order they are given in, so every host of a fleet computes the
// same one.
//
// In one thing it differs from the paper. There, backends take turns until the table is full, so how many
// slots each gets is a matter of chance, and weights are frequencies of turns. Here each backend has a
// quota, its exact share of the slots rounded by largest remainder, and stops taking turns when it has them.
// Shares are then right to one slot for any weights. It follows that a backend whose share is less than one
// slot may have none: a weight of 1 among a thousand of 1000 asks for a larger table.
package maglev

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Backend is one member of a table.
type Backend struct {
	Endpoint netip.AddrPort // its identity: decides which slots it prefers
	Index    uint32         // what its slots hold
	Weight   uint32         // relative to the others', 1..65535
}

// sizes are the table sizes: each is the largest prime below a power of two, but for 65537, the paper's
// smaller table, which is just above one.
var sizes = []int{
	251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65537,
	131071, 262139, 524287, 1048573, 2097143, 4194301, 8388593,
}

// The paper recommends at least 100 slots for each backend.
const slotsPerBackend = 100

// DefaultTop is the size that tables reach and do not exceed, unless another is asked for.
const DefaultTop = 65537

// Size returns the number of slots for so many backends: the smallest of a fixed list of primes that is at
// least 100 times as large, or the largest of the list that is not above top when none is. top below the
// list means its first.
func Size(backends, top int) int {
	size := sizes[0]
	for _, next := range sizes[1:] {
		if size >= slotsPerBackend*backends || next > top {
			break
		}
		size = next
	}
	return size
}

// member is a backend while its table is built.
type member struct {
	Backend
	hash         uint64
	next, skip   uint32 // the permutation of the paper: next, next+skip, next+2*skip... modulo the size
	quota, turns uint32 // slots that it is due, and that it has
	following    int    // next member of the same round
}

// Builder builds tables, and keeps its memory for the next one. Not safe for concurrent use.
type Builder struct {
	members  []member    // in the order of their hashes
	left     []remainder // what rounding down leaves of their shares
	rounds   []int       // first member of each round's list
	taken    []uint64    // a bit for each slot: a byte each would not stay in a processor's first cache
	heaviest uint64      // largest weight
}

// remainder is what rounding down left of a member's share, in slots times the sum of the weights.
type remainder struct {
	member int
	value  uint64
}

// Build fills every slot of the table with the index of a backend. The table's length must be one that Size
// returns, and each endpoint must be there once. Backends without weight get no slots; without any other
// the table is filled with 0.
func (b *Builder) Build(table []uint32, backends []Backend) {
	clear(table)
	b.enter(uint32(len(table)), backends)
	if len(b.members) == 0 {
		return
	}
	b.share(uint32(len(table)))
	b.fill(table)
}

// enter lists the backends with weight.
func (b *Builder) enter(size uint32, backends []Backend) {
	b.members = b.members[:0]
	for _, backend := range backends {
		if backend.Weight == 0 {
			continue
		}
		first, second := hash(backend.Endpoint)
		b.members = append(b.members, member{
			Backend: backend,
			hash:    first,
			next:    uint32(first % uint64(size)),
			skip:    uint32(second%uint64(size-1)) + 1,
		})
	}
	slices.SortFunc(b.members, func(x, y member) int {
		return cmp.Or(cmp.Compare(x.hash, y.hash), x.Endpoint.Compare(y.Endpoint))
	})
}

// share divides the slots by weight. Those left over by rounding down go to the largest remainders, the
// earlier in the order first among equals.
func (b *Builder) share(size uint32) {
	var total uint64
	for _, m := range b.members {
		total += uint64(m.Weight)
	}
	b.left = b.left[:0]
	free := size
	for i := range b.members {
		m := &b.members[i]
		product := uint64(size) * uint64(m.Weight)
		m.quota = uint32(product / total)
		b.left = append(b.left, remainder{member: i, value: product % total})
		free -= m.quota
	}
	slices.SortFunc(b.left, func(x, y remainder) int {
		return cmp.Or(cmp.Compare(y.value, x.value), cmp.Compare(x.member, y.member))
	})
	for _, r := range b.left[:free] {
		b.members[r.member].quota++
	}
}

// fill lets the backends take turns, the heaviest one each round and the others as often as their weight
// compares to its, until all quotas are met. On its turn a backend takes the slot that it prefers among
// those that are free.
func (b *Builder) fill(table []uint32) {
	b.schedule()
	words := (len(table) + 63) / 64
	b.taken = slices.Grow(b.taken[:0], words)[:words]
	clear(b.taken)
	for round := range b.rounds {
		for i := b.rounds[round]; i != none; {
			m := &b.members[i]
			following := m.following
			m.take(table, b.taken)
			b.enqueue(i)
			i = following
		}
	}
}

// none ends the list of a round.
const none = -1

// schedule prepares the rounds, each a list of the members whose turn it is, and enters the first turn of
// every member.
func (b *Builder) schedule() {
	b.heaviest = 0
	for _, m := range b.members {
		b.heaviest = max(b.heaviest, uint64(m.Weight))
	}
	last := 0
	for i := range b.members {
		last = max(last, b.members[i].round(b.members[i].quota, b.heaviest))
	}
	b.rounds = slices.Grow(b.rounds[:0], last+1)[:last+1]
	for round := range b.rounds {
		b.rounds[round] = none
	}
	for i := range b.members {
		b.enqueue(i)
	}
}

// enqueue enters the next turn of a member, if it has one.
func (b *Builder) enqueue(i int) {
	m := &b.members[i]
	if m.turns == m.quota {
		return
	}
	round := m.round(m.turns+1, b.heaviest)
	m.following, b.rounds[round] = b.rounds[round], i
}

// round is the one in which a member has its n-th turn.
func (m *member) round(n uint32, heaviest uint64) int {
	return int(uint64(n) * heaviest / uint64(m.Weight))
}

// take gives the member the free slot that it prefers.
func (m *member) take(table []uint32, taken []uint64) {
	size, slot := uint32(len(table)), m.next
	for taken[slot/64]>>(slot%64)&1 != 0 {
		if slot += m.skip; slot >= size {
			slot -= size
		}
	}
	taken[slot/64] |= 1 << (slot % 64)
	table[slot] = m.Index
	m.turns++
	if m.next = slot + m.skip; m.next >= size {
		m.next -= size
	}
}

// hash returns two independent hashes of an endpoint. They are part of what all hosts of a fleet must agree
// on, so they may never change.
func hash(endpoint netip.AddrPort) (first, second uint64) {
	address := endpoint.Addr().As16()
	h := mix(uint64(endpoint.Port()) + 1)
	h = mix(h ^ binary.BigEndian.Uint64(address[:8]))
	h = mix(h ^ binary.BigEndian.Uint64(address[8:]))
	return h, mix(h + 0x9e3779b97f4a7c15)
}

// mix is the finaliser of MurmurHash3's 64-bit form (Appleby, public domain).
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
