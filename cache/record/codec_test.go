package record_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/cache/record"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// backend returns the status of one backend as the daemon would have it.
func backend(n int) control.BackendStatus {
	random := rand.New(rand.NewPCG(uint64(n), 1))
	about := func(mean float64) float64 { return mean * (0.8 + 0.4*random.Float64()) }
	duration := func(mean float64) control.Duration { return control.Duration(about(mean)) }
	return control.BackendStatus{
		Name: "web-" + string(rune('a'+n)), Address: netip.AddrFrom4([4]byte{10, 1, 0, byte(11 + n)}), Port: 8080, Weight: 100,
		State: control.StateUp, Since: time.Date(2026, 11, 25, 8, 0, n, 0, time.UTC),
		NextHop:  dataplane.NextHop{Resolved: true},
		Counters: dataplane.Counters{Packets: uint64(about(8e8)), Bytes: uint64(about(5e11)), NewFlows: uint64(about(8e6))},
		Share:    about(0.3), Active: int(about(20)), Score: about(0.8), Terms: health.Terms{Success: 1, Latency: about(0.8), Handshakes: 1, Load: 1},
		InForce: 0.97, Reasons: "latency", ProbeSuccess: 1, ProbeLatency: duration(4e5), Handshake: duration(1e6), HandshakesSeen: about(100),
		HandshakesFailed: about(0.001), PeersLatency: duration(4e5), PeersHandshake: duration(1e6),
	}
}

// service returns the status of a service with three backends.
func service() control.ServiceStatus {
	return control.ServiceStatus{
		Name: "web", Address: netip.MustParseAddr("203.0.113.10"), Port: 80, Protocol: dataplane.ProtocolTCP, Mode: dataplane.ModeNAT,
		Health: control.Health{
			SlowStart: control.Pause(10 * time.Second), Damping: control.Pause(30 * time.Second), PanicThreshold: -1, MaxEjected: 10, Minimum: 1,
		},
		State: control.ServiceOK, Slots: 65537, Backends: []control.BackendStatus{backend(0), backend(1), backend(2)},
	}
}

// example is a value of a metadata type, and how it goes through MessagePack and JSON.
type example struct {
	name     string
	pack     func() ([]byte, error)
	unpack   func([]byte) error
	toJSON   func() ([]byte, error)
	fromJSON func([]byte) error
	check    func(testing.TB)
}

func newExample[T any](name string, value T) example {
	codec := record.MessagePack[T]{}
	return example{
		name:     name,
		pack:     func() ([]byte, error) { return codec.Encode(value) },
		unpack:   func(b []byte) error { _, err := codec.Decode(b); return err },
		toJSON:   func() ([]byte, error) { return json.Marshal(value) },
		fromJSON: func(b []byte) error { var v T; return json.Unmarshal(b, &v) },
		check: func(t testing.TB) {
			payload, err := codec.Encode(value)
			if err != nil {
				t.Fatal(err)
			}
			got, err := codec.Decode(payload)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		},
	}
}

func examples() []example {
	return []example{newExample("backend", backend(0)), newExample("service", service())}
}

// dictionary is a typical payload of another backend.
func dictionary(tb testing.TB) []byte {
	payload, err := record.MessagePack[control.BackendStatus]{}.Encode(backend(7))
	if err != nil {
		tb.Fatal(err)
	}
	return payload
}

// formats returns one without and one with a dictionary.
func formats(tb testing.TB) map[string]*record.Format {
	formats := make(map[string]*record.Format)
	for name, d := range map[string][]byte{"record": nil, "dictionary": dictionary(tb)} {
		var err error
		if formats[name], err = record.NewFormat(1, d); err != nil {
			tb.Fatal(err)
		}
	}
	return formats
}

// What the daemon knows of services and backends comes back as it was, and a record is at least a quarter smaller than JSON.
func TestMetadata(t *testing.T) {
	for _, e := range examples() {
		e.check(t)
		payload, _ := e.pack()
		text, _ := e.toJSON()
		t.Logf("%s: JSON %d bytes, MessagePack %d", e.name, len(text), len(payload))
		for name, format := range formats(t) {
			sealed, err := format.Seal("web", record.Record{Version: 1234567, Stored: time.Now(), Fresh: time.Minute, Payload: payload})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %s %d bytes", e.name, name, len(sealed))
			if 4*len(sealed) > 3*len(text) {
				t.Errorf("the %s of %s is too large", name, e.name)
			}
		}
	}
}

func TestDecodeWrong(t *testing.T) {
	codec := record.MessagePack[control.ServiceStatus]{}
	payload, _ := codec.Encode(service())
	for length := range payload {
		if _, err := codec.Decode(payload[:length]); err == nil {
			t.Fatalf("the first %d bytes were decoded", length)
		}
	}
	if _, err := codec.Decode(append(slices.Clone(payload), 0)); err == nil {
		t.Error("a byte too many was decoded")
	}
}

// Every format of MessagePack is taken, and not with a byte more or less.
func TestFormats(t *testing.T) {
	for _, value := range []any{
		nil, true, false, 1, -1, 200, -100, 1000, -1000, 100_000, -100_000, 1 << 40, -1 << 40, uint64(1 << 63), float32(1.5), 1.1,
		"", "short", strings.Repeat("x", 200), strings.Repeat("x", 300), strings.Repeat("x", 70_000),
		[]byte("short"), make([]byte, 300), make([]byte, 70_000),
		[]int{}, []int{1, 2}, make([]int, 300), make([]int, 70_000), map[string]int{"a": 1}, manyKeys(300), manyKeys(70_000),
		time.Unix(1, 0), time.Unix(1, 1), time.Unix(1<<40, 1),
		// extensions: 8 and 16 bits of length; 1, 2 and 16 bytes
		msgpack.RawMessage("\xc7\x03\x05abc"), msgpack.RawMessage("\xc8\x00\x03\x05abc"), msgpack.RawMessage("\xc9\x00\x00\x00\x03\x05abc"),
		msgpack.RawMessage("\xd4\x05a"), msgpack.RawMessage("\xd5\x05ab"), msgpack.RawMessage("\xd8\x050123456789abcdef"),
	} {
		payload, err := msgpack.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		codec := record.MessagePack[msgpack.RawMessage]{}
		for change, ok := range map[int]bool{0: true, -1: false, 1: false} {
			changed := append(slices.Clone(payload), 0)[:len(payload)+change]
			if _, err := codec.Decode(changed); (err == nil) != ok {
				t.Errorf("%.40v, %d bytes and %d: %v", value, len(payload), change, err)
			}
		}
	}
}

// manyKeys returns a map with so many keys.
func manyKeys(count int) map[int]bool {
	m := make(map[int]bool, count)
	for i := range count {
		m[i] = true
	}
	return m
}

// FuzzDecode: bytes that carry a right checksum may still be of another type.
func FuzzDecode(f *testing.F) {
	codec := record.MessagePack[control.ServiceStatus]{}
	payload, _ := codec.Encode(service())
	f.Add(payload)
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})                                             // an array that claims to be huge
	f.Add(bytes.Replace(payload, []byte{0x93, 0xdc}, []byte{0xdd, 0x9c, 0, 0, 0, 0xdc}, 1)) // the array of backends does
	f.Add([]byte{0xdb, 0xff, 0xff, 0xff, 0xff})                                             // a string
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := codec.Decode(data)
		if err != nil {
			return
		}
		payload, err := codec.Encode(value)
		if err != nil {
			return // a field may refuse what it never is, such as protocol 0
		}
		if _, err := codec.Decode(payload); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkMetadata(b *testing.B) {
	for _, e := range examples() {
		b.Run(e.name+"/json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				text, _ := e.toJSON()
				_ = e.fromJSON(text)
			}
		})
		for name, format := range formats(b) {
			b.Run(e.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				now := time.Now()
				for b.Loop() {
					payload, _ := e.pack()
					data, _ := format.Seal("web", record.Record{Version: 1, Stored: now, Payload: payload})
					r, _ := format.Open("web", data)
					_ = e.unpack(r.Payload)
				}
			})
		}
	}
}
