package dataplane

// indices hands out the indices of an array map. It goes round, so that an index is given again as late
// as possible. Not safe for concurrent use.
type indices struct {
	taken []bool
	next  uint32
	used  int
}

// newIndices hands out first..first+count-1.
func newIndices(first, count uint32) *indices {
	i := &indices{taken: make([]bool, first+count), next: first}
	for index := range first {
		i.taken[index] = true
	}
	return i
}

// take returns a free index, or false when there is none.
func (i *indices) take() (uint32, bool) {
	for range i.taken {
		index := i.next
		i.next = (i.next + 1) % uint32(len(i.taken))
		if i.reserve(index) {
			return index, true
		}
	}
	return 0, false
}

// reserve takes a given index, or returns false when it is taken or out of range.
func (i *indices) reserve(index uint32) bool {
	if index >= uint32(len(i.taken)) || i.taken[index] {
		return false
	}
	i.taken[index] = true
	i.used++
	return true
}

func (i *indices) release(index uint32) {
	i.taken[index] = false
	i.used--
}
