package replay

import (
	"container/heap"
	"math"
)

// never is the time of a use that does not come.
const never = math.MaxInt32

// use is a time in the trace at which a key will be used again.
type use struct {
	at  int32
	key uint32
}

// farthest is a heap of uses, the last to come first.
type farthest []use

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].at > f[j].at }
func (f farthest) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *farthest) Push(x any)        { *f = append(*f, x.(use)) }
func (f *farthest) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	*f = (*f)[:last]
	return x
}

// beladyHits counts the hits of the best cache there can be (L. Bélády, "A study of replacement algorithms for a virtual-storage
// computer", IBM Systems Journal 5(2), 1966): it gives up what is used again last, which may be what was just missed:
// engines need not keep that either. O(n log n): the heap also has outdated uses of keys that are held, which lie in the
// past and so never come first.
func beladyHits(t *Trace, size int) int {
	next := make([]int32, len(t.Keys)) // use of the same key
	last := make([]int32, t.Distinct)
	for i := range last {
		last[i] = never
	}
	for i := len(t.Keys) - 1; i >= 0; i-- {
		next[i] = last[t.Keys[i]]
		last[t.Keys[i]] = int32(i)
	}
	held := make([]bool, t.Distinct)
	var uses farthest
	hits, count := 0, 0
	for i, key := range t.Keys {
		if held[key] {
			hits++
		} else {
			held[key] = true
			count++
		}
		heap.Push(&uses, use{next[i], key})
		if count > size {
			held[heap.Pop(&uses).(use).key] = false
			count--
		}
	}
	return hits
}
