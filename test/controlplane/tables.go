package controlplane

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluicelb/sluice/dataplane"
)

// tables are the words by which the kernel knows each service's table, where packets read them. One is switched when its
// service has another table.
type tables struct {
	index    *ebpf.Map // (address, port, protocol) -> index in services
	services *ebpf.Map
	memory   *ebpf.Memory
}

func openTables(pins string) (*tables, error) {
	index, err := ebpf.LoadPinnedMap(filepath.Join(pins, "services4"), nil)
	if err != nil {
		return nil, err
	}
	services, err := ebpf.LoadPinnedMap(filepath.Join(pins, "services"), nil)
	if err != nil {
		return nil, errors.Join(err, index.Close())
	}
	memory, err := services.Memory()
	if err != nil {
		return nil, errors.Join(err, index.Close(), services.Close())
	}
	return &tables{index, services, memory}, nil
}

func (t *tables) close() error { return errors.Join(t.index.Close(), t.services.Close()) }

// all returns the words of all services, by index.
func (t *tables) all() ([]uint64, error) {
	words := make([]uint64, t.services.MaxEntries())
	for i := range words {
		var err error
		if words[i], err = (word{t, uint32(i)}).read(); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// word is that of one service.
type word struct {
	tables *tables
	index  uint32
}

// of finds the word of the service with a number.
func (t *tables) of(number int) (word, error) {
	// struct service_key4 in headers/sluice.h
	key := binary.BigEndian.AppendUint16(serviceAddress(number).AsSlice(), servicePort)
	w := word{tables: t}
	err := t.index.Lookup(append(key, byte(dataplane.ProtocolTCP), 0), &w.index)
	return w, err
}

// read returns the word: struct service in headers/sluice.h begins with it.
func (w word) read() (uint64, error) {
	var bytes [8]byte
	_, err := w.tables.memory.ReadAt(bytes[:], int64(w.index)*int64(w.tables.services.ValueSize()))
	return binary.NativeEndian.Uint64(bytes[:]), err
}

const (
	// So often the memory is looked at; it costs next to nothing.
	pollInterval = 100 * time.Microsecond
	// A change that the kernel does not follow within this time is an error.
	liveWithin = 10 * time.Second
)

var errNotLive = errors.New("the kernel has the same table as before a change that was made")

// changed waits until the word is another one and returns when it was, or the zero time when ctx ends before or it cannot
// be read.
func (w word) changed(ctx context.Context, before uint64) time.Time {
	for ctx.Err() == nil {
		now, err := w.read()
		if err != nil {
			return time.Time{}
		}
		if now != before {
			return time.Now()
		}
		time.Sleep(pollInterval)
	}
	return time.Time{}
}
