package replay

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
)

func readTrace(t *testing.T, text string) *Trace {
	t.Helper()
	trace, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func TestRead(t *testing.T) {
	trace := readTrace(t, "a\nlong key\r\n\na\nb")
	if want := []uint32{0, 1, 0, 2}; trace.Distinct != 3 || !slices.Equal(trace.Keys, want) {
		t.Errorf("got %v, not %v", trace, want)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write([]byte("a\nb\n"))
	w.Close()
	again, err := Read(bytes.NewReader(zipped.Bytes()))
	if err != nil || !slices.Equal(again.Keys, []uint32{0, 1}) {
		t.Errorf("got %v, %v", again, err)
	}
	for name, input := range map[string]string{
		"empty": "\n\n", "cut": zipped.String()[:zipped.Len()-3], "no gzip": "\x1f\x8bnothing", "long line": strings.Repeat("x", 1<<20),
	} {
		if _, err := Read(strings.NewReader(input)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// naiveLRU and best are written for their meaning, not for speed.
func naiveLRU(keys []uint32, size int) (hits int) {
	var held []uint32 // the newest last
	for _, key := range keys {
		for i := range held {
			if held[i] == key {
				hits++
				held = append(held[:i], held[i+1:]...)
				break
			}
		}
		if len(held) == size {
			held = held[1:]
		}
		held = append(held, key)
	}
	return hits
}

// best tries everything: sets of keys are bits.
func best(keys []uint32, size int) int {
	hits := map[uint32]int{0: 0} // the most, by what is held
	for _, key := range keys {
		after := make(map[uint32]int)
		note := func(held uint32, count int) {
			if old, ok := after[held]; !ok || count > old {
				after[held] = count
			}
		}
		for held, count := range hits {
			bit := uint32(1) << key
			if held&bit != 0 {
				note(held, count+1)
				continue
			}
			note(held, count)
			for victim := range uint32(32) {
				if held>>victim&1 == 1 {
					note(held&^(1<<victim)|bit, count)
				}
			}
			if ones(held) < size {
				note(held|bit, count)
			}
		}
		hits = after
	}
	most := 0
	for _, count := range hits {
		most = max(most, count)
	}
	return most
}

func ones(bits uint32) (n int) {
	for ; bits != 0; bits &= bits - 1 {
		n++
	}
	return n
}

// LRU and Bélády against what is obviously right.
func TestPolicies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		distinct, size := 1+random.IntN(7), 1+random.IntN(4)
		trace := &Trace{Keys: make([]uint32, 1+random.IntN(60)), Distinct: distinct}
		for i := range trace.Keys {
			trace.Keys[i] = uint32(min(random.IntN(distinct), random.IntN(distinct)))
		}
		if got, want := lruHits(trace, size), naiveLRU(trace.Keys, size); got != want {
			t.Fatalf("LRU: %d hits, not %d, of %v with %d", got, want, trace.Keys, size)
		}
		if got, want := beladyHits(trace, size), best(trace.Keys, size); got != want {
			t.Fatalf("Bélády: %d hits, not %d, of %v with %d", got, want, trace.Keys, size)
		}
	}
}

// The engines on a part of a real trace: none beats the optimum, and the default one beats the others and LRU.
func TestRun(t *testing.T) {
	file, err := os.Open("testdata/oltp-part.keys.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	trace, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), trace, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", report)
	if report.Accesses != len(trace.Keys) || len(report.Engines) != 4 {
		t.Fatalf("got %+v", report)
	}
	winner := report.Engines[string(report.Default)]
	for name, ratio := range report.Engines {
		if ratio <= 0.05 || ratio > report.Engines[Belady] {
			t.Errorf("%s hits %.3f, the optimum %.3f", name, ratio, report.Engines[Belady])
		}
		if name != Belady && ratio > winner {
			t.Errorf("%s hits %.3f, the default %.3f", name, ratio, winner)
		}
	}
	// Everything fits: each key is missed once.
	report, err = Run(t.Context(), readTrace(t, strings.Repeat("a\nb\nc\n", 1000)), 100)
	if err != nil {
		t.Fatal(err)
	}
	for name, ratio := range report.Engines {
		if ratio != 0.999 {
			t.Errorf("%s hits %f of a trace that fits", name, ratio)
		}
	}
}

// zipf returns a trace in which the key of rank r is asked for in proportion to 1/r.
func zipf(keys, accesses int) *Trace {
	cumulated, sum := make([]float64, keys), 0.0
	for i := range cumulated {
		sum += 1 / float64(i+1)
		cumulated[i] = sum
	}
	random := rand.New(rand.NewPCG(1, 2))
	t := &Trace{Keys: make([]uint32, accesses), Distinct: keys}
	for i := range t.Keys {
		t.Keys[i] = uint32(sort.SearchFloat64s(cumulated, random.Float64()*sum))
	}
	return t
}

// The default engine wins on popularity that never changes, too.
func TestZipf(t *testing.T) {
	report, err := Run(t.Context(), zipf(100_000, 500_000), 2000)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", report)
	for name, ratio := range report.Engines {
		if name != Belady && ratio > report.Engines[string(report.Default)] {
			t.Errorf("%s hits %.3f, the default %.3f", name, ratio, report.Engines[string(report.Default)])
		}
	}
}
