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

// What packets noted in the table before is brought along where its slot was in transition; elsewhere its tick may be of any time.
func TestTicksAreMerged(t *testing.T) {
	h := newTestHost(t, testOptions(t))
	h.mu.Lock()
	defer h.mu.Unlock()
	old, _ := h.regions.take(3)
	table, _ := h.regions.take(3)
	const now = 31000
	before, after := h.slots.of(old), h.slots.of(table)
	before[0], before[1], before[2] = newSlot(1, 2).at(now+5), newSlot(1, 0).at(now+30000), newSlot(1, 2).at(now-5)
	for i := range after {
		after[i] = newSlot(3, 2).at(now)
	}
	h.mergeTicks(old, table)
	if got := [3]uint16{after[0].seen(), after[1].seen(), after[2].seen()}; got != [3]uint16{now + 5, now, now} {
		t.Errorf("the ticks are %v", got)
	}
}
