package cache

import (
	"context"
	"time"
)

// Shared is an L2: records by key, that several caches may use at a time. Records are ordered by the time at which the source had
// them, so that a slow writer cannot put an old one over a new one; clocks of different hosts must agree as well as
// readers are to be protected from that. Safe for concurrent use.
type Shared interface {
	// Get returns the record of key, or nil when there is none. A call that cannot be answered is an error, soon.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put stores the record of a value that the source had at that time, for keep at most, unless there is one of a
	// later time, or it was invalidated at that time or later.
	Put(ctx context.Context, key string, at time.Time, data []byte, keep time.Duration) error
	// Invalidate forgets the record of key, and refuses for keep those of that time and before.
	Invalidate(ctx context.Context, key string, at time.Time, keep time.Duration) error
}
