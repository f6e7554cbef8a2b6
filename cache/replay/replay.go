// Package replay runs a stream of keys through the engines of package l1, and through the two policies that tell what their
// hit ratios are worth: plain LRU, and Bélády's optimum, which knows the future.
package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/sluicelb/sluice/cache/l1"
)

// The policies that are no engines.
const (
	LRU    = "lru"
	Belady = "belady"
)

// Report says how well each policy did.
type Report struct {
	Accesses int                `json:"accesses"`
	Engines  map[string]float64 `json:"engines"` // hit ratio by name, 0..1
	Default  l1.Name            `json:"default"` // the engine that Sluice uses
}

// Trace is a stream of keys, each numbered by its first appearance.
type Trace struct {
	Keys     []uint32
	Distinct int
}

// maxKeys bounds the memory for a trace, to about 5 GB.
const maxKeys = 1 << 28

// Read reads one key a line, compressed with gzip or not. Keys are any bytes; an empty line is no key.
func Read(r io.Reader) (*Trace, error) {
	buffered := bufio.NewReaderSize(r, 1<<16)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) { // RFC 1952, section 2.3.1
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("reading gzip: %w", err)
		}
		buffered = bufio.NewReaderSize(unzipped, 1<<16)
	}
	t, numbers := new(Trace), make(map[string]uint32)
	lines := bufio.NewScanner(buffered)
	for lines.Scan() {
		key := bytes.TrimSpace(lines.Bytes())
		if len(key) == 0 {
			continue
		}
		number, known := numbers[string(key)]
		if !known {
			number = uint32(len(numbers))
			numbers[string(key)] = number
		}
		if len(t.Keys) == maxKeys {
			return nil, fmt.Errorf("the trace has more than %d keys: take a part of it", maxKeys)
		}
		t.Keys = append(t.Keys, number)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading line %d: %w", len(t.Keys)+1, err)
	}
	if len(t.Keys) == 0 {
		return nil, fmt.Errorf("there is no key in it: one a line is expected")
	}
	t.Distinct = len(numbers)
	return t, nil
}

// Run replays t for caches of so many entries, at least 1. Only ctx's end is an error.
func Run(ctx context.Context, t *Trace, size int) (*Report, error) {
	report := &Report{Accesses: len(t.Keys), Engines: make(map[string]float64), Default: l1.Default}
	note := func(name string, hits int) { report.Engines[name] = float64(hits) / float64(len(t.Keys)) }
	note(LRU, lruHits(t, size))
	note(Belady, beladyHits(t, size))
	for _, name := range l1.Names() {
		hits, err := engineHits(ctx, t, name, size)
		if err != nil {
			return nil, err
		}
		note(string(name), hits)
	}
	return report, nil
}

// engineHits sets each key that is missed, as a load would.
func engineHits(ctx context.Context, t *Trace, name l1.Name, size int) (int, error) {
	engine, err := l1.NewEngine(l1.Options[struct{}]{Engine: name, Capacity: uint64(size), Items: size})
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	keys := make([]string, t.Distinct)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	hits := 0
	for i, number := range t.Keys {
		if i%4096 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if _, ok := engine.Get(keys[number]); ok {
			hits++
		} else {
			engine.Set(keys[number], struct{}{})
		}
	}
	return hits, nil
}
