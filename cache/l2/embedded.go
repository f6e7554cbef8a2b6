// Package l2 has what serves as the second tier of the cache.
package l2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Embedded is the second tier on a host without Redis: a file that outlives the process. Nothing is synced to a disk, since all
// of it can be loaded anew: put the file where a crash of the system empties it, such as below /run. Safe for concurrent use.
type Embedded struct {
	db   *bolt.DB
	now  func() time.Time
	stop func()
	done chan struct{}
}

var records = []byte("records")

// An item is what lies under a key:
//
//	at     8 bytes: when the source had the value, or of the invalidation, Unix time in ns
//	until  8 bytes: when to forget it, the same
//	data   the rest; none is the mark of an invalidation
const itemHeader = 16

const (
	sweepEvery = 10 * time.Second
	sweepItems = 1000 // in one transaction, which keeps others waiting
	openWait   = time.Second
)

// OpenEmbedded opens the file, or makes it. now is nil for time.Now. Close it.
func OpenEmbedded(path string, now func() time.Time) (*Embedded, error) {
	if now == nil {
		now = time.Now
	}
	db, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening the cache %s: %w; if nothing else uses it, remove it: all in it can be loaded anew", path, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Embedded{db: db, now: now, stop: stop, done: make(chan struct{})}
	go e.run(ctx)
	return e, nil
}

func openFile(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openWait, NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(records)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Close ends the sweeping and closes the file. It may be called again.
func (e *Embedded) Close() error {
	e.stop()
	<-e.done
	return e.db.Close()
}

// run sweeps now and then.
func (e *Embedded) run(ctx context.Context) {
	defer close(e.done)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = e.Sweep() // a failure repeats with the next call that somebody waits for
		}
	}
}

// Get returns the record of key, or nil.
func (e *Embedded) Get(_ context.Context, key string) (data []byte, err error) {
	err = e.db.View(func(tx *bolt.Tx) error {
		if i, ok := parseItem(tx.Bucket(records).Get([]byte(key))); ok && e.now().Before(i.until) && len(i.data) > 0 {
			data = bytes.Clone(i.data)
		}
		return nil
	})
	return data, err
}

// Put stores a record, unless there is a later one or a mark of that time or later.
func (e *Embedded) Put(_ context.Context, key string, at time.Time, data []byte, keep time.Duration) error {
	return e.replace(key, item{at, e.now().Add(keep), data}, func(old item) bool {
		return len(old.data) > 0 && !old.at.After(at) || old.at.Before(at)
	})
}

// Invalidate leaves a mark in place of the record.
func (e *Embedded) Invalidate(_ context.Context, key string, at time.Time, keep time.Duration) error {
	return e.replace(key, item{at, e.now().Add(keep), nil}, func(old item) bool { return !old.at.After(at) })
}

// replace stores i, unless what lies there is still of use and may says no.
func (e *Embedded) replace(key string, i item, may func(old item) bool) error {
	return e.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(records)
		if old, ok := parseItem(bucket.Get([]byte(key))); ok && e.now().Before(old.until) && !may(old) {
			return nil
		}
		return bucket.Put([]byte(key), i.bytes())
	})
}

// Sweep removes what is kept no longer.
func (e *Embedded) Sweep() error {
	for next, more := []byte(nil), true; more; {
		err := e.db.Update(func(tx *bolt.Tx) error {
			c := tx.Bucket(records).Cursor()
			key, value := c.Seek(next)
			var old [][]byte
			for n := 0; key != nil && n < sweepItems; n++ {
				if i, ok := parseItem(value); !ok || !e.now().Before(i.until) {
					old = append(old, key)
				}
				key, value = c.Next()
			}
			next, more = bytes.Clone(key), key != nil
			for _, key := range old {
				if err := tx.Bucket(records).Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type item struct {
	at, until time.Time
	data      []byte
}

func (i item) bytes() []byte {
	b := make([]byte, 0, itemHeader+len(i.data))
	b = binary.BigEndian.AppendUint64(b, uint64(i.at.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(i.until.UnixNano()))
	return append(b, i.data...)
}

func parseItem(b []byte) (item, bool) {
	if len(b) < itemHeader {
		return item{}, false
	}
	return item{
		at:    time.Unix(0, int64(binary.BigEndian.Uint64(b))),
		until: time.Unix(0, int64(binary.BigEndian.Uint64(b[8:]))),
		data:  b[itemHeader:],
	}, true
}
