package history

import (
	"math"
	"math/rand/v2"
	"testing"
)

// equal compares bit by bit, but for NaN, which is only one.
func (b *block) equal(o *block) bool {
	for i := range b {
		for c := range b[i] {
			x, y := b[i][c], o[i][c]
			if math.Float32bits(x) != math.Float32bits(y) && (x == x || y == y) {
				return false
			}
		}
	}
	return true
}

// blocks calls f with blocks of every kind of value: none, steady, growing, any bits at all, with gaps.
func blocks(f func(*block)) {
	random := rand.New(rand.NewPCG(1, 2))
	values := []func(i int) float32{
		func(int) float32 { return absent[0] },
		func(int) float32 { return 7 },
		func(i int) float32 { return float32(i) },
		func(int) float32 { return float32(poisson(random, 5000)) },
		func(int) float32 { return math.Float32frombits(random.Uint32()) },
		func(int) float32 { return -math.Float32frombits(0) },
		func(i int) float32 { return []float32{math.MaxFloat32, math.SmallestNonzeroFloat32}[i%2] },
	}
	for range 2000 {
		b := newBlock()
		gaps := random.Float64() * float64(random.IntN(2))
		for c := range Columns {
			value := values[random.IntN(len(values))]
			for i := range random.IntN(blockMinutes + 1) {
				if random.Float64() >= gaps {
					b[i][c] = value(i)
				}
			}
		}
		f(b)
	}
}

// What was encoded is decoded, whatever it is.
func TestBlock(t *testing.T) {
	k := key(490000, "web")
	blocks(func(b *block) {
		data := b.encode(k)
		decoded, err := decode(k, data)
		if err != nil {
			t.Fatal(err)
		}
		if !decoded.equal(b) {
			t.Fatalf("%v\nis decoded as\n%v", *b, *decoded)
		}
	})
}

// No bit of a block can change, nor its place, without being noticed.
func TestBlockCorrupt(t *testing.T) {
	k := key(490000, "web")
	b := newBlock()
	for i := range b {
		b[i] = busyRow(i)
	}
	data := b.encode(k)
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		if _, err := decode(k, data); err == nil {
			t.Fatalf("bit %d of %d may be wrong", bit, 8*len(data))
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	for length := range len(data) {
		if _, err := decode(k, data[:length]); err == nil {
			t.Fatalf("%d of %d bytes are enough", length, len(data))
		}
	}
	if _, err := decode(key(490001, "web"), data); err == nil {
		t.Error("it may be another hour's")
	}
}

// Whatever is in a block whose checksum is right, decoding ends, with an error or without.
func FuzzBlock(f *testing.F) {
	k := key(490000, "web")
	blocks(func(b *block) { f.Add(b.encode(k)) })
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = decode(k, data)
		data = append([]byte(nil), data[:max(len(data)-blockCRC, 0)]...)
		_, _ = decode(k, appendSum(k, data))
	})
}

// busyRow is a minute of a service with 5,000 new flows a minute.
func busyRow(i int) Row {
	random := rand.New(rand.NewPCG(uint64(i), 3))
	flows := poisson(random, 5000)
	packets := poisson(random, 12*flows)
	return Row{
		NewFlows: float32(flows), Packets: float32(packets), Bytes: float32(packets*97 + poisson(random, 800)), Flows: float32(poisson(random, 900)),
		Backends: 12, Handshake: float32(0.02 * math.Exp(0.1*random.NormFloat64())),
		Retransmissions: float32(poisson(random, 20)) / float32(flows), Errors: float32(poisson(random, 0.2)) / float32(flows),
	}
}

// poisson is the normal distribution with the same mean and variance, good enough for large means.
func poisson(random *rand.Rand, mean float64) float64 {
	return math.Max(math.Round(mean+math.Sqrt(mean)*random.NormFloat64()), 0)
}
