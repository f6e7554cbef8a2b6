package dataplane

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// slot is one slot of a Maglev table: two indices of backends and a tick, see SLOT_INDEX_BITS in headers/sluice.h.
type slot uint64

const (
	slotSize      = int(unsafe.Sizeof(slot(0)))
	slotIndexBits = 24
	slotIndex     = 1<<slotIndexBits - 1
)

// newSlot is a slot whose previous backend no packet has met.
func newSlot(current, previous uint32) slot { return slot(current) | slot(previous)<<slotIndexBits }

func (s slot) current() uint32  { return uint32(s) & slotIndex }
func (s slot) previous() uint32 { return uint32(s>>slotIndexBits) & slotIndex }

// owner is the backend of the flows that are not remembered.
func (s slot) owner() uint32 { return cmp.Or(s.previous(), s.current()) }

// seen is the tick, modulo 2^16, at which a packet last went to the previous backend.
func (s slot) seen() uint16 { return uint16(s >> (2 * slotIndexBits)) }

// at is the slot with another tick.
func (s slot) at(tick uint16) slot { return s<<16>>16 | slot(tick)<<(2*slotIndexBits) }

// load reads a slot that programs write.
func (s *slot) load() slot { return slot(atomic.LoadUint64((*uint64)(s))) }

// store replaces a slot that programs read, at once. What they note meanwhile is lost.
func (s *slot) store(value slot) { atomic.StoreUint64((*uint64)(s), uint64(value)) }

// note replaces the tick of a slot that programs read, and nothing else of it, as they do.
func (s *slot) note(tick uint16) {
	(*[slotSize / 2]uint16)(unsafe.Pointer(s))[2*slotIndexBits/16] = tick
}

const (
	// slotsChunk is how many slots are mapped at once: 1 MiB.
	slotsChunk = 1 << 17
	// slotsRest is how long what was looked at stays mapped.
	slotsRest = time.Second
	// reservation are the flags of addresses with nothing behind them.
	reservation = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
)

// slots are those of all tables: an array map of which the parts are mapped that somebody looks at, for pages that
// are mapped count as memory of the process, and full tables have more of them than all else that it needs.
type slots struct {
	array  *ebpf.Map
	lock   sync.Locker // held by whoever looks at slots
	memory []byte      // reserved addresses: who touches what is not mapped faults
	mapped map[uint32]bool
}

// newSlots reserves addresses for a whole array.
func newSlots(array *ebpf.Map, lock sync.Locker) (*slots, error) {
	page := unix.Getpagesize()
	length := (int(array.MaxEntries())*slotSize + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, length, unix.PROT_NONE, reservation)
	if err != nil {
		return nil, fmt.Errorf("reserving addresses for %s: %w", array, err)
	}
	return &slots{array: array, lock: lock, memory: memory, mapped: make(map[uint32]bool)}, nil
}

// of returns the slots of a table, valid while the lock is held. Like the runtime it panics where the kernel has no
// memory left for them.
func (s *slots) of(table region) []slot {
	if table.size == 0 {
		return nil
	}
	for chunk := table.first / slotsChunk; chunk <= (table.end()-1)/slotsChunk; chunk++ {
		if !s.mapped[chunk] {
			s.reach(chunk)
		}
	}
	return unsafe.Slice((*slot)(unsafe.Pointer(&s.memory[int(table.first)*slotSize])), table.size)
}

// reach maps a chunk, and has all of them let go soon.
func (s *slots) reach(chunk uint32) {
	const size = slotsChunk * slotSize
	from := int(chunk) * size
	s.remap(from, min(from+size, len(s.memory)), s.array.FD(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if len(s.mapped) == 0 {
		time.AfterFunc(slotsRest, s.letGo)
	}
	s.mapped[chunk] = true
}

// letGo leaves nothing mapped.
func (s *slots) letGo() {
	s.lock.Lock()
	defer s.lock.Unlock()
	if !s.isClosed() {
		s.remap(0, len(s.memory), -1, unix.PROT_NONE, reservation)
		clear(s.mapped)
	}
}

// remap puts something else behind some of the addresses.
func (s *slots) remap(from, end, file, protection, flags int) {
	part := s.memory[from:end]
	_, err := unix.MmapPtr(file, int64(from), unsafe.Pointer(&part[0]), uintptr(len(part)), protection, flags|unix.MAP_FIXED)
	if err != nil {
		panic(fmt.Sprintf("mapping %s: %v", s.array, err))
	}
}

// close gives back the addresses. The lock must be held.
func (s *slots) close() error {
	if s.isClosed() {
		return nil
	}
	memory := s.memory
	s.memory = nil
	return unix.Munmap(memory)
}

// isClosed tells whether there is nothing to look at any more.
func (s *slots) isClosed() bool { return s == nil || s.memory == nil }
