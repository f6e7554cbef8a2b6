package dataplane

import (
	"errors"
	"math/bits"

	"github.com/cilium/ebpf"
)

// rememberedMaps lists the maps that packets write and later ones read.
func rememberedMaps(o *balancerMaps) map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		"flows4": o.Flows4, "flows6": o.Flows6, "replies4": o.Replies4, "replies6": o.Replies6,
		"fragments4": o.Fragments4, "fragments6": o.Fragments6, "buckets": o.Buckets,
		"olders": o.Olders, "loads": o.Loads, "recent": o.Recent,
	}
}

// sharedMaps lists the maps that packets only read.
func sharedMaps(o *balancerMaps) map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		"services4": o.Services4, "services6": o.Services6, "services": o.Services, "slots": o.Slots,
		"backends": o.Backends, "sources4": o.Sources4, "sources6": o.Sources6, "servers": o.Servers,
		"devices": o.Devices,
	}
}

// mapCopy holds the entries of a hash map.
type mapCopy interface {
	read(*ebpf.Map) error
	write(*ebpf.Map) error
	length() int
}

// newCopies returns an empty copy of each of the rememberedMaps.
func newCopies() map[string]mapCopy {
	return map[string]mapCopy{
		"flows4":     new(entries[balancerTuple4, balancerFlow4]),
		"flows6":     new(entries[balancerTuple6, balancerFlow6]),
		"replies4":   new(entries[balancerTuple4, balancerReply4]),
		"replies6":   new(entries[balancerTuple6, balancerReply6]),
		"fragments4": new(entries[balancerFragmentKey4, balancerPorts]),
		"fragments6": new(entries[balancerFragmentKey6, balancerPorts]),
		"buckets":    new(entries[balancerBucketKey, uint64]),
		"olders":     new(entries[uint32, balancerOlder]),
		"loads":      new(entries[uint32, balancerLoad]),
		"recent":     new(entries[uint32, uint64]),
	}
}

type entries[K, V any] struct {
	keys   []K
	values []V
}

func (e *entries[K, V]) length() int { return len(e.keys) }

// batchSize is how many entries are copied in one system call.
const batchSize = 4096

// read reads all entries. Those that are added or go meanwhile may be there or not.
func (e *entries[K, V]) read(m *ebpf.Map) error {
	return eachBatch(m, func(keys []K, values []V) error {
		e.keys, e.values = append(e.keys, keys...), append(e.values, values...)
		return nil
	})
}

// eachBatch shows all entries of a map, some thousands at once, which are valid until use returns. Those that are
// added or go meanwhile may be shown or not.
func eachBatch[K, V any](m *ebpf.Map, use func([]K, []V) error) error {
	// A system call reads whole buckets, of which the largest of a full map holds some dozens.
	size := min(int(m.MaxEntries()), max(batchSize, 1<<bits.Len(uint(m.MaxEntries()/16))))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err := use(keys[:n], values[:n]); err != nil {
			return err
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (e *entries[K, V]) write(m *ebpf.Map) error {
	for from := 0; from < len(e.keys); from += batchSize {
		to := min(from+batchSize, len(e.keys))
		if _, err := m.BatchUpdate(e.keys[from:to], e.values[from:to], nil); err != nil {
			return err
		}
	}
	return nil
}
