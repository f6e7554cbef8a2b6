package maglev

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// equal returns n backends of the same weight.
func equal(n int) []Backend {
	backends := make([]Backend, n)
	for i := range backends {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		backends[i] = Backend{Endpoint: netip.AddrPortFrom(address, 80), Index: uint32(i + 1), Weight: 100}
	}
	return backends
}

func build(size int, backends []Backend) []uint32 {
	table := make([]uint32, size)
	new(Builder).Build(table, backends)
	return table
}

// owned counts the slots of each index.
func owned(table []uint32) map[uint32]int {
	counts := make(map[uint32]int)
	for _, index := range table {
		counts[index]++
	}
	return counts
}

func TestSize(t *testing.T) {
	for _, test := range []struct{ backends, top, want int }{
		{0, DefaultTop, 251},
		{2, DefaultTop, 251},
		{3, DefaultTop, 509},
		{100, DefaultTop, 16381},
		{655, DefaultTop, 65537},
		{656, DefaultTop, 65537},
		{656, 1 << 20, 131071},
		{65535, math.MaxInt, 8388593},
		{1000, 100, 251},
	} {
		if got := Size(test.backends, test.top); got != test.want {
			t.Errorf("Size(%d, %d) = %d, want %d", test.backends, test.top, got, test.want)
		}
	}
	for _, size := range sizes {
		for factor := 2; factor*factor <= size; factor++ {
			if size%factor == 0 {
				t.Errorf("%d is no prime: %d divides it", size, factor)
			}
		}
	}
}

// A fleet agrees on its tables: this one may never change.
func TestTableIsForever(t *testing.T) {
	backends := equal(10)
	backends[3].Weight, backends[4].Weight = 1, 1000
	backends[5].Endpoint = netip.MustParseAddrPort("[2001:db8::5]:443")
	h := fnv.New64a()
	for _, index := range build(1021, backends) {
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(index)))
	}
	if got, want := fmt.Sprintf("%016x", h.Sum64()), "142d538d4ff35eae"; got != want {
		t.Errorf("the table's hash is %s, want %s", got, want)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	backends := equal(50)
	for i := range backends {
		backends[i].Weight = uint32(1 + i*20)
	}
	want := build(8191, backends)
	for range 10 {
		rand.Shuffle(len(backends), func(i, j int) { backends[i], backends[j] = backends[j], backends[i] })
		if !slices.Equal(build(8191, backends), want) {
			t.Fatal("the same backends in another order make another table")
		}
	}
}

// A rewrite is frequent and its tables are large: the memory of the last one serves again.
func TestBuilderKeepsItsMemory(t *testing.T) {
	var b Builder
	table, backends := make([]uint32, 8191), equal(80)
	b.Build(table, backends)
	if n := testing.AllocsPerRun(10, func() { b.Build(table, backends) }); n > 0 {
		t.Errorf("building again allocates %.0f times", n)
	}
}

// The memory of a builder that is used again does not show in the table.
func TestBuilderForgets(t *testing.T) {
	var b Builder
	table := make([]uint32, 8191)
	b.Build(table, equal(80))
	b.Build(table, equal(7))
	if !slices.Equal(table, build(8191, equal(7))) {
		t.Error("the second table of a builder differs from the first one of another")
	}
}

func TestEqualBackends(t *testing.T) {
	counts := owned(build(65537, equal(100)))
	smallest, largest := math.MaxInt, 0
	for _, n := range counts {
		smallest, largest = min(smallest, n), max(largest, n)
	}
	if len(counts) != 100 || float64(largest) > 1.02*float64(smallest) {
		t.Errorf("%d backends have %d to %d slots each", len(counts), smallest, largest)
	}
}

// weighted returns n backends with weights of a kind.
func weighted(kind string, n int) []Backend {
	random := rand.New(rand.NewPCG(1, 2))
	backends := equal(n)
	for i := range backends {
		switch kind {
		case "random":
			backends[i].Weight = uint32(random.IntN(1000) + 1)
		case "far apart":
			backends[i].Weight = []uint32{1, 2, 5, 10, 1000}[i%5]
		case "one heavy":
			backends[i].Weight = 1
		}
	}
	if kind == "one heavy" {
		backends[n/2].Weight = 1000
	}
	return backends
}

// checkShares wants the slots of every backend to be right to one slot, and none to be of any other.
func checkShares(t *testing.T, table []uint32, backends []Backend) {
	t.Helper()
	counts := owned(table)
	var total uint32
	for _, b := range backends {
		total += b.Weight
	}
	left := len(table)
	for _, b := range backends {
		want := float64(len(table)) * float64(b.Weight) / float64(total)
		if got := float64(counts[b.Index]); math.Abs(got-want) >= 1 {
			t.Errorf("weight %d of %d has %.0f slots of %d, want %.1f", b.Weight, total, got, len(table), want)
		}
		left -= counts[b.Index]
	}
	if left != 0 {
		t.Errorf("%d slots are of no backend", left)
	}
}

func TestWeights(t *testing.T) {
	for _, kind := range []string{"equal", "random", "far apart", "one heavy"} {
		for _, n := range []int{1, 2, 3, 5, 40, 300, 1000} {
			t.Run(fmt.Sprintf("%s, %d backends", kind, n), func(t *testing.T) {
				backends := weighted(kind, n)
				checkShares(t, build(65537, backends), backends)
			})
		}
	}
}

// A table that is smaller than its number of backends is full all the same, and fair.
func TestMoreBackendsThanSlots(t *testing.T) {
	backends := weighted("far apart", 1000)
	checkShares(t, build(251, backends), backends)
}

func TestWeightZero(t *testing.T) {
	backends := equal(3)
	backends[1].Weight = 0
	counts := owned(build(1021, backends))
	if counts[2] != 0 || counts[1]+counts[3] != 1021 {
		t.Errorf("slots by index: %v", counts)
	}
	for _, none := range [][]Backend{nil, {{Endpoint: backends[0].Endpoint, Index: 1}}} {
		if counts := owned(build(1021, none)); counts[0] != 1021 {
			t.Errorf("a table of no backends has %v", counts)
		}
	}
}

// moved is the fraction of the slots that were not the removed backend's and changed their owner.
func moved(before, after []uint32, removed uint32) float64 {
	others, changed := 0, 0
	for i := range before {
		if before[i] == removed {
			continue
		}
		others++
		if before[i] != after[i] {
			changed++
		}
	}
	return float64(changed) / float64(others)
}

func TestRemovalDisturbsLittle(t *testing.T) {
	for _, kind := range []string{"equal", "random", "far apart"} {
		backends := weighted(kind, 100)
		before := build(65537, backends)
		worst, sum := 0.0, 0.0
		for i := range backends {
			without := slices.Delete(slices.Clone(backends), i, i+1)
			fraction := moved(before, build(65537, without), backends[i].Index)
			worst, sum = max(worst, fraction), sum+fraction
		}
		t.Logf("weights %s: removing one of 100 moves %.2f %% of the others' slots on average, %.2f %% at worst", kind, sum, 100*worst)
		if worst > 0.03 {
			t.Errorf("weights %s: removing one of 100 moved %.2f %% of the others' slots", kind, 100*worst)
		}
	}
}

// The heaviest sets the length of a round, so its change could disturb more than another's.
func TestWeightChangeDisturbsLittle(t *testing.T) {
	for _, kind := range []string{"equal", "random", "far apart"} {
		backends := weighted(kind, 100)
		heaviest := 0
		for i, b := range backends {
			if b.Weight > backends[heaviest].Weight {
				heaviest = i
			}
		}
		for _, i := range []int{42, heaviest} {
			changed := slices.Clone(backends)
			changed[i].Weight -= max(1, changed[i].Weight/10)
			fraction := moved(build(65537, backends), build(65537, changed), changed[i].Index)
			t.Logf("weights %s: %d instead of %d moves %.2f %% of the others' slots", kind, changed[i].Weight, backends[i].Weight, 100*fraction)
			if fraction > 0.03 {
				t.Errorf("weights %s: %d instead of %d moved %.2f %% of the others' slots", kind, changed[i].Weight, backends[i].Weight, 100*fraction)
			}
		}
	}
}

func FuzzBuild(f *testing.F) {
	f.Add(uint64(1), uint8(10), uint8(3))
	f.Add(uint64(2), uint8(0), uint8(0))
	f.Add(uint64(3), uint8(255), uint8(0))
	f.Add(uint64(4), uint8(1), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, n, sizeIndex uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		backends := equal(int(n))
		for i := range backends {
			backends[i].Weight = uint32(random.IntN(1001)) * uint32(random.IntN(2))
		}
		size := sizes[int(sizeIndex)%9] // up to 65537
		table := build(size, backends)
		if slices.ContainsFunc(backends, func(b Backend) bool { return b.Weight > 0 }) {
			checkShares(t, table, backends)
		}
		random.Shuffle(len(backends), func(i, j int) { backends[i], backends[j] = backends[j], backends[i] })
		if !slices.Equal(build(size, backends), table) {
			t.Error("the same backends in another order make another table")
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{4, 100, 1000} {
		benchmark(b, fmt.Sprintf("backends=%d", n), equal(n))
	}
	benchmark(b, "one of 1000 heavy", weighted("one heavy", 1000))
	benchmark(b, "weights of 1000 random", weighted("random", 1000))
}

// The goal is a table of 65,537 slots for 1,000 backends in less than 15 ms.
func benchmark(b *testing.B, name string, backends []Backend) {
	b.Run(name, func(b *testing.B) {
		var builder Builder
		table := make([]uint32, 65537)
		b.ReportAllocs()
		for b.Loop() {
			builder.Build(table, backends)
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/table")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(table)), "ns/slot")
	})
}
