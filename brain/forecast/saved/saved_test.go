package saved

import (
	"slices"
	"strings"
	"testing"
)

type point struct {
	X, Y float32
	Up   bool
}

const kind = "test"

func encoded(t testing.TB) []byte {
	data, err := Encode(kind, 3, point{1, 2, true}, []uint32{7, 8}, []point{{3, 4, false}}, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decoded(data []byte) (p point, numbers []uint32, points []point, last float64, err error) {
	err = Decode(kind, 3, data, &p, &numbers, &points, &last)
	return
}

func TestDecodeReadsWhatEncodeWrote(t *testing.T) {
	p, numbers, points, last, err := decoded(encoded(t))
	if err != nil || p != (point{1, 2, true}) || !slices.Equal(numbers, []uint32{7, 8}) ||
		!slices.Equal(points, []point{{3, 4, false}}) || last != 0.5 {
		t.Errorf("%v %v %v %v: %v", p, numbers, points, last, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encoded(t)
	unsealed := good[:len(good)-trail]
	for want, data := range map[string][]byte{
		"kind":          append([]byte("mine"), good[4:]...),
		"version 4":     Seal(slices.Concat([]byte(kind), []byte{4, 0, 0, 0}, unsealed[lead:])),
		"checksum":      append(slices.Clone(good[:len(good)-1]), good[len(good)-1]+1),
		"ends too soon": Seal(slices.Clone(unsealed[:len(unsealed)-1])),
		"1 bytes too":   Seal(append(slices.Clone(unsealed), 0)),
	} {
		if _, _, _, _, err := decoded(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

// A length that nobody wrote takes no memory.
func TestDecodeBelievesNoLength(t *testing.T) {
	data := Seal([]byte(kind + "\x03\x00\x00\x00" + "\xff\xff\xff\xff"))
	var list []uint32
	if err := Decode(kind, 3, data, &list); err == nil || list != nil {
		t.Errorf("%d numbers, error %v", len(list), err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		decoded(data)
		decoded(Seal(data))
	})
}
