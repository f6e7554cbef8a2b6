package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func newFormat(t testing.TB, schema uint64, dictionary []byte) *Format {
	t.Helper()
	f, err := NewFormat(schema, dictionary)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func seal(t testing.TB, f *Format, key string, r Record) []byte {
	t.Helper()
	data, err := f.Seal(key, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var examples = map[string]Record{
	"empty":          {Version: 1, Stored: time.Unix(0, 1)},
	"absent":         {Version: 1 << 63, Stored: time.Unix(1764057600, 123456789), Fresh: time.Second, Absent: true},
	"short":          {Version: 7, Stored: time.Unix(1764057600, 0), Fresh: time.Hour, Tag: `"etag"`, Payload: []byte("short")},
	"compressible":   {Version: 7, Stored: time.Unix(1764057600, 0), Payload: bytes.Repeat([]byte("192.0.2.1 up "), 100)},
	"incompressible": {Version: 7, Stored: time.Unix(1764057600, 0), Payload: noise(2000)},
}

func noise(length int) []byte {
	b, random := make([]byte, length), rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func equal(a, b Record) bool {
	return a.Version == b.Version && a.Stored.Equal(b.Stored) && a.Fresh == b.Fresh && a.Tag == b.Tag && a.Absent == b.Absent &&
		bytes.Equal(a.Payload, b.Payload)
}

func TestRecord(t *testing.T) {
	dictionary := []byte(strings.Repeat("192.0.2.7 down ", 20))
	for name, r := range examples {
		for _, f := range []*Format{newFormat(t, 3, nil), newFormat(t, 3, dictionary)} {
			data := seal(t, f, "key", r)
			got, err := f.Open("key", data)
			if err != nil || !equal(got, r) {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			if len(r.Payload) > 100 && (len(data) < len(r.Payload)/5) != (name == "compressible") {
				t.Errorf("%s: %d bytes become %d", name, len(r.Payload), len(data))
			}
		}
	}
}

// No bit of a record can change, nor its length or its key, without being noticed.
func TestDamage(t *testing.T) {
	f := newFormat(t, 3, nil)
	for name, r := range examples {
		data := seal(t, f, "key", r)
		for bit := range 8 * len(data) {
			damaged := bytes.Clone(data)
			damaged[bit/8] ^= 1 << (bit % 8)
			if _, err := f.Open("key", damaged); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: bit %d: %v", name, bit, err)
			}
		}
		for length := range data {
			if _, err := f.Open("key", data[:length]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: the first %d bytes: %v", name, length, err)
			}
		}
		if _, err := f.Open("other", data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: under another key: %v", name, err)
		}
	}
}

func TestSchema(t *testing.T) {
	data := seal(t, newFormat(t, 3, nil), "key", examples["short"])
	if _, err := newFormat(t, 2, nil).Open("key", data); !errors.Is(err, ErrNewer) {
		t.Errorf("schema 3 where 2 is known: %v", err)
	}
	if _, err := newFormat(t, 4, nil).Open("key", data); !errors.Is(err, ErrCorrupt) {
		t.Errorf("schema 3 where 4 is known: %v", err)
	}
	one, other := newFormat(t, 3, []byte("192.0.2.1 up 192.0.2.1 up ")), newFormat(t, 3, []byte("another dictionary"))
	data = seal(t, one, "key", examples["compressible"])
	if _, err := other.Open("key", data); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another dictionary: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	f := newFormat(t, 1, nil)
	if _, err := f.Seal("key", Record{Payload: make([]byte, MaxPayload+1)}); err == nil {
		t.Error("a payload that is too large was sealed")
	}
	r := Record{Stored: time.Unix(1, 0), Payload: make([]byte, MaxPayload)}
	if got, err := f.Open("key", seal(t, f, "key", r)); err != nil || !equal(got, r) {
		t.Errorf("the largest payload: %v", err)
	}
	bomb := f.compressor.encoder.EncodeAll(make([]byte, 8*MaxPayload), nil)
	if payload, err := f.compressor.decompress(bomb); err == nil {
		t.Errorf("%d bytes were decompressed to %d", len(bomb), len(payload))
	}
}

// FuzzOpen: anything may lie in Redis. The fuzzer's bytes are also opened with their checksum made right.
func FuzzOpen(f *testing.F) {
	format := newFormat(f, 3, []byte("192.0.2.7 down "))
	for _, r := range examples {
		f.Add(seal(f, format, "key", r))
		f.Add(seal(f, newFormat(f, 4, nil), "key", r))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for range 2 {
			r, err := format.Open("key", data)
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer):
				t.Fatalf("got %v", err)
			case err == nil:
				again, err := format.Open("key", seal(t, format, "key", r))
				if r.Absent {
					r.Payload = nil
				}
				if err != nil || !equal(again, r) {
					t.Fatalf("%+v becomes %+v, %v", r, again, err)
				}
			}
			if len(data) < checksumSize {
				return
			}
			data = append([]byte(nil), data...)
			body := data[:len(data)-checksumSize]
			binary.BigEndian.PutUint32(data[len(body):], sum("key", body))
		}
	})
}
