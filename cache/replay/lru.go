package replay

// lruHits counts the hits of a cache that gives up what was used longest ago. Entries are a ring of indices by key,
// with the key number t.Distinct as its head.
func lruHits(t *Trace, size int) int {
	head := uint32(t.Distinct)
	newer, older := make([]uint32, t.Distinct+1), make([]uint32, t.Distinct+1)
	held := make([]bool, t.Distinct)
	newer[head], older[head] = head, head
	unlink := func(key uint32) {
		newer[older[key]], older[newer[key]] = newer[key], older[key]
	}
	hits, count := 0, 0
	for _, key := range t.Keys {
		switch {
		case held[key]:
			hits++
			unlink(key)
		case count == size:
			oldest := newer[head]
			unlink(oldest)
			held[oldest] = false
		default:
			count++
		}
		held[key] = true
		older[key], newer[key] = older[head], head // behind the newest, which is beside the head
		newer[older[head]], older[head] = key, key
	}
	return hits
}
