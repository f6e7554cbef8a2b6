// Package lease lets one brain decide at a time, with fencing tokens.
//
// A token grows with every holder. Whoever carries out decisions remembers the greatest one it has seen and refuses smaller ones (Fence): then a brain
// that was cut off, and does not know yet that its lease is another's, cannot act any more once that one has (Kleppmann, "How to do
// distributed locking", 2016).
package lease

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// ErrLost is returned when the lease is not held.
var ErrLost = errors.New("the lease is not held")

// Lease says whether its holder may decide. Implementations are safe for concurrent use.
type Lease interface {
	// Token returns the holder's fencing token, above 0, or ErrLost, with who has the lease as far as is known.
	Token() (uint64, error)
}

var (
	leaseBucket = []byte("lease")
	tokenKey    = []byte("token")
	fenceBucket = []byte("fence")
)

// Local is the lease of a host by itself: who has its store open, which one process can, has it.
type Local struct{ token uint64 }

// NewLocal takes the lease of an open store, with a token greater than all before it.
func NewLocal(db *bolt.DB) (Local, error) {
	var l Local
	err := db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(leaseBucket)
		if err != nil {
			return err
		}
		l.token = number(bucket.Get(tokenKey)) + 1
		return bucket.Put(tokenKey, binary.BigEndian.AppendUint64(nil, l.token))
	})
	if err != nil {
		return Local{}, fmt.Errorf("taking the lease of the store: %w", err)
	}
	return l, nil
}

// Token returns the token: the lease is held as long as the store is open.
func (l Local) Token() (uint64, error) { return l.token, nil }

func number(data []byte) uint64 {
	if len(data) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(data)
}

// Fence refuses decisions with a token smaller than the greatest it has let through, also after a restart. It is safe for
// concurrent use.
type Fence struct{ db *bolt.DB }

// NewFence returns the fence in an open store.
func NewFence(db *bolt.DB) (Fence, error) {
	err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(fenceBucket)
		return err
	})
	if err != nil {
		return Fence{}, fmt.Errorf("opening the fence: %w", err)
	}
	return Fence{db}, nil
}

// Admit lets a decision about a target through, and from then on none with a smaller token. Otherwise it returns ErrLost.
func (f Fence) Admit(target string, token uint64) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(fenceBucket)
		greatest := number(bucket.Get([]byte(target)))
		switch {
		case token < greatest:
			return fmt.Errorf("%w: a decision about %s with the token %d comes after one with %d", ErrLost, target, token, greatest)
		case token == greatest:
			return nil
		}
		return bucket.Put([]byte(target), binary.BigEndian.AppendUint64(nil, token))
	})
}
