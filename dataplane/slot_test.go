package dataplane

import "testing"

func TestSlot(t *testing.T) {
	const largest = 1<<24 - 1
	for _, s := range []struct {
		current, previous uint32
		seen              uint16
	}{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {largest, 0, 65535}, {0, largest, 65535}, {largest, largest, 0}, {70000, 80000, 9}} {
		slot := newSlot(s.current, s.previous).at(s.seen)
		if slot.current() != s.current || slot.previous() != s.previous || slot.seen() != s.seen {
			t.Errorf("%+v became %d, %d, %d", s, slot.current(), slot.previous(), slot.seen())
		}
		slot.note(s.seen + 1)
		if slot != newSlot(s.current, s.previous).at(s.seen+1) {
			t.Errorf("%+v with another tick became %d, %d, %d", s, slot.current(), slot.previous(), slot.seen())
		}
	}
}

// Tables are memory of the process only while somebody looks at them, and are the same afterwards.
func TestSlotsAreLetGo(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	s := udpService(servers(numbers(11, 21), 100)...)
	h.set(t, s)
	before, _ := h.ServiceStatus(s.ServiceKey)
	for range 2 {
		eventually(t, "tables that are not mapped", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.slots.mapped) == 0
		})
		after, _ := h.ServiceStatus(s.ServiceKey)
		if before.Slots == 0 || after.Slots != before.Slots || after.Backends[0].Slots != before.Backends[0].Slots {
			t.Errorf("%+v became %+v", before, after)
		}
	}
}
