package dataplane

import "slices"

// region is a run of slots that holds one Maglev table.
type region struct{ first, size uint32 }

func (r region) end() uint32 { return r.first + r.size }

// word is the form in which a service's record names the region (struct service in headers/sluice.h).
func (r region) word() uint64 { return uint64(r.size)<<32 | uint64(r.first) }

func regionOf(word uint64) region {
	return region{first: uint32(word), size: uint32(word >> 32)}
}

// regions hands out the slots of all tables, first fit. Not safe for concurrent use.
type regions struct {
	free []region // sorted by first, never adjacent, never empty
	used uint32
}

func newRegions(slots uint32) *regions {
	return &regions{free: []region{{first: 0, size: slots}}}
}

// take returns a region of the size, or false when no free run is as long.
func (r *regions) take(size uint32) (region, bool) {
	for i := range r.free {
		if r.free[i].size < size {
			continue
		}
		taken := region{first: r.free[i].first, size: size}
		r.cut(i, taken)
		return taken, true
	}
	return region{}, false
}

// reserve takes a given region, or returns false when part of it is taken or out of range.
func (r *regions) reserve(wanted region) bool {
	for i, free := range r.free {
		if free.first <= wanted.first && wanted.end() <= free.end() && wanted.end() >= wanted.first {
			r.cut(i, wanted)
			return true
		}
	}
	return false
}

// cut takes a region out of the free one at i that holds it.
func (r *regions) cut(i int, taken region) {
	free := r.free[i]
	var rest []region
	if taken.first > free.first {
		rest = append(rest, region{free.first, taken.first - free.first})
	}
	if free.end() > taken.end() {
		rest = append(rest, region{taken.end(), free.end() - taken.end()})
	}
	r.free = slices.Replace(r.free, i, i+1, rest...)
	r.used += taken.size
}

// release gives back a region that was taken.
func (r *regions) release(given region) {
	if given.size == 0 {
		return
	}
	r.used -= given.size
	i, _ := slices.BinarySearchFunc(r.free, given.first, func(f region, first uint32) int {
		return int(int64(f.first) - int64(first))
	})
	r.free = slices.Insert(r.free, i, given)
	if i+1 < len(r.free) && r.free[i].end() == r.free[i+1].first {
		r.free[i].size += r.free[i+1].size
		r.free = slices.Delete(r.free, i+1, i+2)
	}
	if i > 0 && r.free[i-1].end() == r.free[i].first {
		r.free[i-1].size += r.free[i].size
		r.free = slices.Delete(r.free, i, i+1)
	}
}
