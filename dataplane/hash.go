package dataplane

// hashKeys makes the keys that the program hashes flows with (bpf/hash.h) of a seed: SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014). They may never change: hosts of a fleet must agree, and a
// flow that is not remembered goes where its hash says.
func hashKeys(seed uint32) (keys [11]uint64) {
	state := uint64(seed)
	for i := range keys {
		state += 0x9e3779b97f4a7c15
		z := (state ^ state>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		keys[i] = z ^ z>>31
	}
	return keys
}
