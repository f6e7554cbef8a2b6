package cache

import (
	"math/rand/v2"
	"sync/atomic"
)

// Stats count what a namespace has done. Of the answers to readers Hits, Stale and Refused are from L1 or from a load that failed.
type Stats struct {
	Hits    uint64 `json:"hits"`    // fresh in L1
	Stale   uint64 `json:"stale"`   // given out while, or because, they could not be renewed at once
	Misses  uint64 `json:"misses"`  // not in L1
	Expired uint64 `json:"expired"` // in L1, but too old
	Refused uint64 `json:"refused"` // readers who were told that what is known is too old

	L2Hits    uint64 `json:"l2-hits"`
	L2Misses  uint64 `json:"l2-misses"`
	L2Errors  uint64 `json:"l2-errors"`
	L2Corrupt uint64 `json:"l2-corrupt"` // records that were no such, counted as misses of readers
	L2Newer   uint64 `json:"l2-newer"`   // records of a newer schema

	Loads    uint64 `json:"loads"`    // the source was asked
	Failures uint64 `json:"failures"` // and did not answer

	Bytes     uint64 `json:"bytes"` // that L1 holds
	Evictions uint64 `json:"evictions"`
}

type counters struct {
	hits                                       spread
	stale, misses, expired, refused            atomic.Uint64
	l2Hits, l2Misses, l2Errors, corrupt, newer atomic.Uint64
	loads, failures                            atomic.Uint64
}

// Stats returns what was counted until now.
func (n *Namespace[V]) Stats() Stats {
	c := &n.stats
	return Stats{
		Hits: c.hits.sum(), Stale: c.stale.Load(), Misses: c.misses.Load(), Expired: c.expired.Load(), Refused: c.refused.Load(),
		L2Hits: c.l2Hits.Load(), L2Misses: c.l2Misses.Load(), L2Errors: c.l2Errors.Load(), L2Corrupt: c.corrupt.Load(), L2Newer: c.newer.Load(),
		Loads: c.loads.Load(), Failures: c.failures.Load(),
		Bytes: n.l1.Bytes(), Evictions: n.l1.Evictions(),
	}
}

// spread is a counter in several cache lines, one of which chance chooses: one line would be what all processors wait for.
type spread [16]struct {
	atomic.Uint64
	_ [56]byte
}

func (s *spread) add() { s[rand.Uint32()%uint32(len(s))].Add(1) }

func (s *spread) sum() (sum uint64) {
	for i := range s {
		sum += s[i].Load()
	}
	return sum
}
