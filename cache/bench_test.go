package cache

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/sluicelb/sluice/cache/record"
)

func benchmarkNamespace(b *testing.B, capacity uint64) *Namespace[[]byte] {
	n, err := New(Options[[]byte]{
		Name: "bench", Capacity: capacity, Codec: record.Bytes{}, TTL: 1 << 60,
		Loader: LoaderFunc[[]byte](func(_ context.Context, key, _ string) (Loaded[[]byte], error) {
			return Loaded[[]byte]{Value: bytes.Repeat([]byte(key[:1]), 1024)}, nil // zeros would not be resident
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	if _, err := n.Get(b.Context(), "hot"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return n
}

// BenchmarkGet measures what a reader pays for a value that is in L1.
func BenchmarkGet(b *testing.B) {
	n := benchmarkNamespace(b, 1<<20)
	ctx := b.Context()
	for b.Loop() {
		_, _ = n.Get(ctx, "hot")
	}
}

func BenchmarkGetParallel(b *testing.B) {
	n := benchmarkNamespace(b, 1<<20)
	ctx := b.Context()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = n.Get(ctx, "hot")
		}
	})
}

// BenchmarkMemory fills L1 with 1 GiB of values of 1 KiB and reports what part of the growth of the process they are, as it is
// and after what the collector holds back was given to the system.
func BenchmarkMemory(b *testing.B) {
	const values = 1 << 20
	for b.Loop() {
		runtime.GC()
		debug.FreeOSMemory()
		before := resident(b)
		n := benchmarkNamespace(b, 2<<30)
		for i := range values {
			if _, err := n.Get(b.Context(), fmt.Sprintf("key-%07d", i)); err != nil {
				b.Fatal(err)
			}
		}
		grown := resident(b) - before
		debug.FreeOSMemory()
		settled := resident(b) - before
		b.ReportMetric(100*values*1024/grown, "%-payload")
		b.ReportMetric(100*values*1024/settled, "%-payload-settled")
		b.ReportMetric(100*float64(n.Stats().Bytes)/settled, "%-counted")
		runtime.KeepAlive(n)
	}
}

// resident returns the resident set of this process, bytes.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status") // proc_pid_status(5)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Fatal(err)
	}
	return 1024 * kilobytes
}
