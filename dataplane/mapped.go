package dataplane

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapped is a BPF_F_MMAPABLE array map seen as a slice: what is stored in an item, the programs read
// without a system call between.
type mapped[T any] struct {
	items  []T
	memory []byte
}

// mapArray maps the whole of m. T must have the layout of the map's value, or the value must be an
// array of T.
func mapArray[T any](m *ebpf.Map) (mapped[T], error) {
	// Elements of array maps are padded to 8 bytes (kernel/bpf/arraymap.c).
	length := int(m.MaxEntries()) * ((int(m.ValueSize()) + 7) &^ 7)
	memory, err := unix.Mmap(m.FD(), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return mapped[T]{}, fmt.Errorf("mapping %s: %w", m, err)
	}
	var item T
	items := unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), length/int(unsafe.Sizeof(item)))
	return mapped[T]{items: items, memory: memory}, nil
}

func (m *mapped[T]) close() error {
	if m.memory == nil {
		return nil
	}
	memory := m.memory
	*m = mapped[T]{}
	return unix.Munmap(memory)
}
