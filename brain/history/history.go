// Package history keeps what was measured of each service, minute by minute, and the events that are known to change its
// traffic. It forecasts nothing.
//
// The minutes of an hour of a service are one compressed block in the daemon's store. There is no copy of them in
// memory, so services cost none, and what was written is there after a crash.
package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Retention is how long minutes are kept.
const Retention = 90 * 24 * time.Hour

// Future is how far beyond the present minutes may lie; those that a wrong clock wrote farther away are deleted.
const Future = 24 * time.Hour

// Column is one of the figures that are kept of a minute.
type Column int

// The columns. Counts are of the whole minute, levels are those at its end.
const (
	NewFlows        Column = iota // flows that began
	Packets                       // from clients
	Bytes                         // of these packets' frames
	Flows                         // in progress
	Backends                      // that are up
	Handshake                     // mean time from a client's SYN to its next packet, seconds
	Retransmissions               // share of the SYNs that were sent again, 0..1
	Errors                        // share of the new flows whose backend refused them or could not be reached, 0..1
	Columns         = iota
)

var columnNames = [Columns]string{"new-flows", "packets", "bytes", "flows", "backends", "handshake", "retransmissions", "errors"}

// String returns for example "new-flows".
func (c Column) String() string { return columnNames[c] }

// adds says that the column counts, so that two minutes together have the sum.
func (c Column) adds() bool { return c <= Bytes }

// Row is what was measured in one minute; NaN is absent.
type Row [Columns]float32

var absent = func() (r Row) {
	for c := range r {
		r[c] = float32(math.NaN())
	}
	return r
}()

// Absent returns a row of which nothing is known.
func Absent() Row { return absent }

// Known says that something is known of the minute.
func (r *Row) Known() bool {
	for _, v := range r {
		if v == v {
			return true
		}
	}
	return false
}

// Minute is what was measured of all services in one minute.
type Minute struct {
	At   time.Time      // anywhere within it
	Rows map[string]Row // by the service's name
}

// Options change how a History works.
type Options struct {
	Step   time.Duration // of the rows; 0 is a minute, and everything else for tests
	Logger *slog.Logger  // nil is slog.Default
}

// History keeps minutes in a bucket of a bbolt store. It is safe for concurrent use.
type History struct {
	db   *bolt.DB
	step time.Duration
	log  *slog.Logger

	mu      sync.Mutex
	corrupt map[string]bool // keys of blocks that were reported
}

// bucketName is of the bucket: key -> block.
var bucketName = []byte("history")

// Open returns the history in a store that is open, which stays the caller's to close.
func Open(db *bolt.DB, o Options) (*History, error) {
	h := &History{db: db, step: o.Step, log: o.Logger, corrupt: make(map[string]bool)}
	if h.step == 0 {
		h.step = time.Minute
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the history: %w", err)
	}
	return h, nil
}

// Step is the time from row to row, one minute but in tests.
func (h *History) Step() time.Duration { return h.step }

// minute is the number of the minute that a time belongs to.
func (h *History) minute(t time.Time) int64 {
	step := int64(h.step)
	minute := t.UnixNano() / step
	if t.UnixNano()%step < 0 {
		minute--
	}
	return minute
}

// start is when a minute begins.
func (h *History) start(minute int64) time.Time { return time.Unix(0, minute*int64(h.step)).UTC() }

// key is the hour, so that all services' blocks of an hour lie side by side, which writes few pages each minute and deletes
// what is old in one piece; then the name.
func key(hour int64, service string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(hour)), service...)
}

// split divides a minute's number into the hour's and the place in it.
func split(minute int64) (hour int64, place int) {
	return minute / blockMinutes, int(minute % blockMinutes)
}

// Record adds minutes, all or none, in one transaction, and nothing to what is known of a minute already: a clock that was
// set back does not change the past. With a time now, which must be right, it deletes what lies Retention before
// it or more than Future behind it. When it returns nil everything is on the disk.
func (h *History) Record(minutes []Minute, now time.Time) error {
	return h.update(func(bucket *bolt.Bucket) error {
		for i := range minutes {
			minute := h.minute(minutes[i].At)
			for _, service := range slices.Sorted(maps.Keys(minutes[i].Rows)) {
				row := minutes[i].Rows[service]
				if err := h.put(bucket, service, minute, []Row{row}, onlyAbsent); err != nil {
					return err
				}
			}
		}
		if now.IsZero() {
			return nil
		}
		return h.expire(bucket, now)
	})
}

func (h *History) update(change func(*bolt.Bucket) error) error {
	err := h.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		bucket.FillPercent = 0.9 // keys rise
		return change(bucket)
	})
	if err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	return nil
}

// onlyAbsent and replacing are how a value gets the place of another one.
func onlyAbsent(old, new float32) float32 {
	if old == old {
		return old
	}
	return new
}

func replacing(old, new float32) float32 { return onlyAbsent(new, old) }

// put merges rows, one a minute, into the blocks of a service.
func (h *History) put(bucket *bolt.Bucket, service string, minute int64, rows []Row, merge func(old, new float32) float32) error {
	for len(rows) > 0 {
		hour, place := split(minute)
		if hour < 0 {
			return fmt.Errorf("%s is before 1970", h.start(minute).Format(time.RFC3339))
		}
		n := min(len(rows), blockMinutes-place)
		key := key(hour, service)
		b := h.block(key, bucket.Get(key))
		for i := range n {
			for c := range b[place+i] {
				b[place+i][c] = merge(b[place+i][c], rows[i][c])
			}
		}
		if err := bucket.Put(key, b.encode(key)); err != nil {
			return err
		}
		rows, minute = rows[n:], minute+int64(n)
	}
	return nil
}

// block decodes one; without data, and where it is corrupt, it is empty.
func (h *History) block(key, data []byte) *block {
	if data == nil {
		return newBlock()
	}
	b, err := decode(key, data)
	if err == nil {
		return b
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.corrupt[string(key)] {
		h.corrupt[string(key)] = true
		hour := int64(binary.BigEndian.Uint64(key))
		h.log.Error("an hour of the history is lost", "service", string(key[8:]), "from", h.start(hour*blockMinutes), "error", err)
	}
	return newBlock()
}

// expire deletes what is too old, or too far in the future.
func (h *History) expire(bucket *bolt.Bucket, now time.Time) error {
	oldest, _ := split(h.minute(now.Add(-Retention)))
	newest, _ := split(h.minute(now.Add(Future)))
	cursor := bucket.Cursor()
	for k, _ := cursor.First(); k != nil && bytes.Compare(k, key(oldest, "")) < 0; k, _ = cursor.First() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	for k, _ := cursor.Last(); k != nil && bytes.Compare(k, key(newest+1, "")) >= 0; k, _ = cursor.Last() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Read returns the rows of a service from the minute of one time up to before that of another, one for each minute,
// whether something is known of it or not.
func (h *History) Read(service string, from, to time.Time) ([]Row, error) {
	first, end := h.minute(from), h.minute(to)
	if end <= first {
		return nil, nil
	}
	if end-first > int64((Retention+2*Future)/h.step) {
		return nil, errors.New("reading the history: more is asked for than is kept")
	}
	rows := slices.Repeat([]Row{absent}, int(end-first))
	err := h.db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		for minute := max(first, 0); minute < end; {
			hour, place := split(minute)
			n := min(blockMinutes-place, int(end-minute))
			key := key(hour, service)
			if data := bucket.Get(key); data != nil {
				copy(rows[minute-first:], h.block(key, data)[place:place+n])
			}
			minute += int64(n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	return rows, nil
}
