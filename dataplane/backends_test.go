package dataplane

import (
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// Who finds the interface in the record of a backend, as the program looks for it first, finds the rest too. A
// reader looks on while a next hop becomes resolved again and again.
func TestHopIsWhole(t *testing.T) {
	const rounds, index = 200_000, 1
	h := newTestHost(t, testOptions(t))
	hop := NextHop{Resolved: true, Index: h.servers, MAC: serverMAC(11), LocalMAC: serversMAC, Source: addr("198.51.100.1"), MTU: 1500}
	record := &h.backends.items[index]
	words := (*[unsafe.Sizeof(*record) / 8]uint64)(unsafe.Pointer(record))
	const ifindex, source = unsafe.Offsetof(record.Hop.Ifindex) / 8, unsafe.Offsetof(record.Source) / 8

	var step atomic.Int64 // two a round: odd while the record is emptied, even while it is written
	var seen, torn int
	var reader sync.WaitGroup
	reader.Go(func() {
		for now := step.Load(); now <= 2*rounds; now = step.Load() {
			resolved := atomic.LoadUint64(&words[ifindex]) != 0
			whole := atomic.LoadUint64(&words[source]) != 0
			if now%2 != 0 || step.Load() != now || !resolved {
				continue
			}
			if seen++; !whole {
				torn++
			}
		}
	})
	for range rounds {
		step.Add(1)
		for i := range words {
			atomic.StoreUint64(&words[i], 0)
		}
		step.Add(1)
		h.writeHop(index, hop)
	}
	step.Add(1)
	reader.Wait()
	if seen == 0 || torn > 0 {
		t.Errorf("of %d resolved hops %d had no source address", seen, torn)
	}
}
