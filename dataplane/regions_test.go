package dataplane

import (
	"math/rand/v2"
	"testing"
)

// Random takes and releases never overlap, and all space comes back as one piece.
func TestRegions(t *testing.T) {
	const slots = 1000
	r := newRegions(slots)
	owner := make([]int, slots)
	var held []region
	random := rand.New(rand.NewPCG(1, 2))
	for round := 1; round < 5000; round++ {
		if random.IntN(2) == 0 && len(held) > 0 {
			i := random.IntN(len(held))
			r.release(held[i])
			for slot := held[i].first; slot < held[i].end(); slot++ {
				owner[slot] = 0
			}
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			continue
		}
		taken, ok := r.take(uint32(random.IntN(100) + 1))
		if !ok {
			continue
		}
		for slot := taken.first; slot < taken.end(); slot++ {
			if owner[slot] != 0 {
				t.Fatalf("slot %d is taken twice", slot)
			}
			owner[slot] = round
		}
		held = append(held, taken)
	}
	for _, taken := range held {
		r.release(taken)
	}
	if len(r.free) != 1 || r.free[0] != (region{0, slots}) || r.used != 0 {
		t.Errorf("left over: %+v, %d used", r.free, r.used)
	}
}

func TestRegionsReserve(t *testing.T) {
	r := newRegions(100)
	for _, test := range []struct {
		region region
		want   bool
	}{
		{region{10, 20}, true},
		{region{29, 1}, false},
		{region{30, 70}, true},
		{region{95, 10}, false},
		{region{0, 10}, true},
		{region{4294967290, 10}, false},
	} {
		if got := r.reserve(test.region); got != test.want {
			t.Errorf("reserving %+v is %v, want %v", test.region, got, test.want)
		}
	}
	if _, ok := r.take(1); ok {
		t.Error("a slot of a full table is taken")
	}
}

func TestIndices(t *testing.T) {
	i := newIndices(1, 3)
	for want := range uint32(3) {
		if index, ok := i.take(); !ok || index != want+1 {
			t.Errorf("index is %d, %v, want %d", index, ok, want+1)
		}
	}
	if index, ok := i.take(); ok {
		t.Errorf("index %d of three is a fourth", index)
	}
	i.release(2)
	if index, ok := i.take(); !ok || index != 2 || i.used != 3 {
		t.Errorf("index is %d, %v, %d are used", index, ok, i.used)
	}
	if i.reserve(4) || i.reserve(1) {
		t.Error("an index out of range or taken can be reserved")
	}
}
