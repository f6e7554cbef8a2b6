package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
)

// A block is up to an hour of a service's minutes:
//
//	version     1 byte
//	rows        1 byte: those that follow; of later minutes nothing is known
//	columns     one after the other, each value by what differs from the one before it, in bits
//	CRC-32C     4 bytes, of the block's key and everything before
//
// Values are coded as in Gorilla (Pelkonen et al., VLDB 2015, section 4.1.2), of 32 bits in place of 64 and
// with absent as the value before the first:
//
//	0                    the same value again
//	10 bits              the bits that differ are within the same window as the last time
//	11 5 5 bits          the window begins after so many leading bits, and has so many and one; then its bits
type block [blockMinutes]Row

const (
	blockMinutes = 60
	blockVersion = 1
	blockHeader  = 2
	blockCRC     = 4
	windowCost   = 10 // bits
)

func newBlock() *block {
	b := new(block)
	for i := range b {
		b[i] = absent
	}
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum covers the key, so that a block in the place of another one is corrupt, too.
func sum(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, data)
}

func (b *block) encode(key []byte) []byte {
	rows := blockMinutes
	for rows > 0 && !b[rows-1].Known() {
		rows--
	}
	w := bitWriter{bytes: []byte{blockVersion, byte(rows)}}
	for c := range Columns {
		before, leading, length := math.Float32bits(absent[c]), 0, 0
		for i := range rows {
			now := math.Float32bits(b[i][c])
			if b[i][c] != b[i][c] {
				now = math.Float32bits(absent[c]) // there are many NaN
			}
			leading, length = w.difference(before^now, leading, length)
			before = now
		}
	}
	return appendSum(key, w.finish())
}

func appendSum(key, data []byte) []byte {
	return binary.BigEndian.AppendUint32(data, sum(key, data))
}

// difference writes one value; the window is that of the last time, and becomes that of the next time.
func (w *bitWriter) difference(x uint32, leading, length int) (int, int) {
	if x == 0 {
		w.write(0, 1)
		return leading, length
	}
	first, last := bits.LeadingZeros32(x), 32-bits.TrailingZeros32(x)
	if first < leading || last > leading+length || length-(last-first) > windowCost {
		leading, length = first, last-first
		w.write(0b11, 2)
		w.write(uint32(leading), 5)
		w.write(uint32(length-1), 5)
	} else {
		w.write(0b10, 2)
	}
	w.write(x>>(32-leading-length), length)
	return leading, length
}

// decode returns an error for anything that encode has not written under this key.
func decode(key, data []byte) (*block, error) {
	if len(data) < blockHeader+blockCRC {
		return nil, fmt.Errorf("its block has only %d bytes", len(data))
	}
	body := data[:len(data)-blockCRC]
	if sum(key, body) != binary.BigEndian.Uint32(data[len(body):]) {
		return nil, errors.New("the checksum of its block is wrong")
	}
	if body[0] != blockVersion {
		return nil, fmt.Errorf("its block has version %d, this program knows %d", body[0], blockVersion)
	}
	if body[1] > blockMinutes {
		return nil, fmt.Errorf("its block has %d rows", body[1])
	}
	b, r := newBlock(), bitReader{bytes: body[blockHeader:]}
	for c := range Columns {
		value, leading, length := math.Float32bits(absent[c]), 0, 0
		for i := range int(body[1]) {
			if r.read(1) == 1 {
				if r.read(1) == 1 {
					leading, length = int(r.read(5)), int(r.read(5))+1
				}
				value ^= r.read(length) << max(32-leading-length, 0)
			}
			b[i][c] = math.Float32frombits(value)
		}
	}
	if r.short {
		return nil, errors.New("its block ends too early")
	}
	return b, nil
}

// bitWriter appends bits, the highest first.
type bitWriter struct {
	bytes   []byte
	pending uint64 // its lowest bits wait
	waiting int    // so many, < 8 between calls
}

func (w *bitWriter) write(value uint32, count int) {
	w.pending = w.pending<<count | uint64(value)
	for w.waiting += count; w.waiting >= 8; w.waiting -= 8 {
		w.bytes = append(w.bytes, byte(w.pending>>(w.waiting-8)))
	}
}

// finish fills the last byte with zeros.
func (w *bitWriter) finish() []byte {
	if w.waiting > 0 {
		w.write(0, 8-w.waiting)
	}
	return w.bytes
}

// bitReader reads what a bitWriter wrote. Beyond the end there are zeros.
type bitReader struct {
	bytes   []byte
	pending uint64
	waiting int
	short   bool // it was read beyond the end
}

func (r *bitReader) read(count int) uint32 {
	for ; r.waiting < count; r.waiting += 8 {
		next := byte(0)
		if len(r.bytes) > 0 {
			next, r.bytes = r.bytes[0], r.bytes[1:]
		} else {
			r.short = true
		}
		r.pending = r.pending<<8 | uint64(next)
	}
	r.waiting -= count
	return uint32(r.pending >> r.waiting & (1<<count - 1))
}
