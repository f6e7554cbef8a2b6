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
		backends[i] = Backend{Endpoint: netip.AddrPortFrom(address, 80), Index: uint16(i + 1), Weight: 100}
	}
	return backends
}

func build(size int, backends []Backend) []uint16 {
	table := make([]uint16, size)
	new(Builder).Build(table, backends)
	return table
}

// owned counts the slots of each index.
func owned(table []uint16) map[uint16]int {
	counts := make(map[uint16]int)
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
	if err := binary.Write(h, binary.BigEndian, build(1021, backends)); err != nil {
		t.Fatal(err)
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

// The memory of a builder that is used again does not show in the table.
func TestBuilderForgets(t *testing.T) {
	var b Builder
	table := make([]uint16, 8191)
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

// Shares are right to one slot, whatever the weights.
func TestWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 300; n = n*2 + 1 {
		backends := equal(n)
		total := 0
		for i := range backends {
			backends[i].Weight = uint32(random.IntN(1000) + 1)
			total += int(backends[i].Weight)
		}
		table := build(65537, backends)
		counts := owned(table)
		for _, b := range backends {
			want := 65537 * float64(b.Weight) / float64(total)
			if got := float64(counts[b.Index]); math.Abs(got-want) > 1 {
				t.Errorf("weight %d of %d has %.0f slots, want %.1f", b.Weight, total, got, want)
			}
		}
	}
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
func moved(before, after []uint16, removed uint16) float64 {
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
	backends := equal(100)
	before := build(65537, backends)
	worst, sum := 0.0, 0.0
	for i := range backends {
		without := slices.Delete(slices.Clone(backends), i, i+1)
		fraction := moved(before, build(65537, without), backends[i].Index)
		worst, sum = max(worst, fraction), sum+fraction
	}
	t.Logf("removing one of 100 moves %.2f %% of the others' slots on average, %.2f %% at worst", sum, 100*worst)
	if worst > 0.03 {
		t.Errorf("removing one of 100 backends moved %.2f %% of the others' slots", 100*worst)
	}
}

func TestWeightChangeDisturbsLittle(t *testing.T) {
	backends := equal(100)
	before := build(65537, backends)
	backends[42].Weight = 90
	fraction := moved(before, build(65537, backends), 43)
	t.Logf("a tenth less weight for one of 100 moves %.2f %% of the others' slots", 100*fraction)
	if fraction > 0.03 {
		t.Errorf("a tenth less weight moved %.2f %% of the others' slots", 100*fraction)
	}
}

func FuzzBuild(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Add(uint64(2), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		backends := equal(int(n))
		weighted := 0
		for i := range backends {
			backends[i].Weight = uint32(random.IntN(1001)) * uint32(random.IntN(2))
			if backends[i].Weight > 0 {
				weighted++
			}
		}
		table := build(Size(int(n), DefaultTop), backends)
		counts := owned(table)
		if weighted > 0 && counts[0] > 0 {
			t.Errorf("%d slots are empty", counts[0])
		}
		for _, b := range backends {
			if b.Weight == 0 && counts[b.Index] > 0 {
				t.Errorf("a backend without weight has %d slots", counts[b.Index])
			}
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{4, 100, 1000} {
		benchmark(b, fmt.Sprintf("backends=%d", n), equal(n))
	}
	uneven := equal(1000)
	for i := range uneven[1:] {
		uneven[i+1].Weight = 1
	}
	benchmark(b, "one of 1000 heavy", uneven)
}

func benchmark(b *testing.B, name string, backends []Backend) {
	b.Run(name, func(b *testing.B) {
		var builder Builder
		table := make([]uint16, 65537)
		for b.Loop() {
			builder.Build(table, backends)
		}
	})
}
