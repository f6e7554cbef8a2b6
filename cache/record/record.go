// Package record turns values into what the tiers beyond this process hold, and back: MessagePack inside a frame that
// carries version, age and checksum, compressed when that pays. What is damaged, of another key or of a newer schema is
// an error, never a wrong value.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A record's bytes:
//
//	format      1 byte
//	flags       1 byte
//	schema      varint, of the value's type
//	version     varint, of the value
//	stored      8 bytes: when the source had it, Unix time in ns
//	fresh       varint: for how long from then it is fresh, ns
//	tag         varint length, bytes: the source's own name of the version, such as an ETag
//	dictionary  4 bytes, if flagged: CRC-32C of the dictionary it was compressed with
//	payload     the rest, but for
//	CRC-32C     4 bytes, of the key and everything before
const (
	format      = 0xC1 // of all bytes the one that never begins a MessagePack value: no bare value is taken for a record
	shortest    = 2 + 1 + 1 + 8 + 1 + 1 + checksumSize
	maxOverhead = shortest + 3*(binary.MaxVarintLen64-1) + binary.MaxVarintLen32 + 4

	checksumSize = 4
)

const (
	flagAbsent     = 1 << iota // the source has no such key; there is no payload
	flagCompressed             // zstd
	flagDictionary             // with a dictionary
	flagsKnown     = 1<<iota - 1
)

// MaxPayload is the largest payload, bytes: what claims to be larger is corrupt.
const MaxPayload = 16 << 20

// What Open returns, wrapped with the reason.
var (
	ErrCorrupt = errors.New("the record is corrupt")
	ErrNewer   = errors.New("the record is of a newer schema")
)

// Record is a value as the tiers know it.
type Record struct {
	Version uint64        // of two records of a key the higher one is newer
	Stored  time.Time     // when the source had it
	Fresh   time.Duration // for so long from then
	Tag     string        // the source's own name of the version, such as an ETag
	Absent  bool          // the source has no such key
	Payload []byte
}

// Format is what the records of a namespace have in common. Safe for concurrent use.
type Format struct {
	schema     uint64
	compressor *compressor
}

// NewFormat returns a format whose records have that schema. Values up to a few hundred bytes compress well only with a
// dictionary: a typical payload or several, up to some KB, the commonest parts last; every host must have the same one. It may be nil.
func NewFormat(schema uint64, dictionary []byte) (*Format, error) {
	c, err := newCompressor(dictionary)
	if err != nil {
		return nil, err
	}
	return &Format{schema: schema, compressor: c}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum covers the key, so that a record in the place of another one is corrupt, too.
func sum(key string, data []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, data)
}

// Seal returns r for the place of key.
func (f *Format) Seal(key string, r Record) ([]byte, error) {
	if len(r.Payload) > MaxPayload {
		return nil, fmt.Errorf("the value of %q has %d bytes: %d at most", key, len(r.Payload), MaxPayload)
	}
	payload, flags := f.compressor.compress(r.Payload)
	if r.Absent {
		payload, flags = nil, flagAbsent
	}
	data := make([]byte, 0, maxOverhead+len(r.Tag)+len(payload))
	data = append(data, format, flags)
	data = binary.AppendUvarint(data, f.schema)
	data = binary.AppendUvarint(data, r.Version)
	data = binary.BigEndian.AppendUint64(data, uint64(r.Stored.UnixNano()))
	data = binary.AppendUvarint(data, uint64(max(r.Fresh, 0)))
	data = binary.AppendUvarint(data, uint64(len(r.Tag)))
	data = append(data, r.Tag...)
	if flags&flagDictionary != 0 {
		data = binary.BigEndian.AppendUint32(data, f.compressor.id)
	}
	data = append(data, payload...)
	return binary.BigEndian.AppendUint32(data, sum(key, data)), nil
}

// Open returns what Seal was given, ErrNewer for a record of a newer schema, and ErrCorrupt for everything that Seal
// has not made for this key, or of an older schema, or with another dictionary. The payload may be a part of data.
func (f *Format) Open(key string, data []byte) (Record, error) {
	corrupt := func(reason string) (Record, error) { return Record{}, fmt.Errorf("%w: %s", ErrCorrupt, reason) }
	if len(data) < shortest || data[0] != format {
		return corrupt("it does not begin as one")
	}
	body := data[:len(data)-checksumSize]
	if sum(key, body) != binary.BigEndian.Uint32(data[len(body):]) {
		return corrupt("its checksum is wrong")
	}
	flags, p := body[1], parser{rest: body[2:]}
	schema := p.varint()
	r := Record{Version: p.varint(), Stored: time.Unix(0, int64(p.uint64())), Fresh: time.Duration(p.varint()), Absent: flags&flagAbsent != 0}
	r.Tag = string(p.bytes(p.varint()))
	dictionary := uint32(0)
	if flags&flagDictionary != 0 {
		dictionary = p.uint32()
	}
	switch {
	case p.short || r.Fresh < 0:
		return corrupt("its header is wrong")
	case schema > f.schema:
		return Record{}, fmt.Errorf("%w: it has %d, this program knows %d", ErrNewer, schema, f.schema)
	case schema < f.schema:
		return corrupt("its schema is an older one")
	case flags&^flagsKnown != 0:
		return corrupt("its flags are not known")
	case dictionary != 0 && dictionary != f.compressor.id:
		return corrupt("its dictionary is not ours")
	}
	r.Payload = p.rest
	if flags&flagCompressed != 0 {
		var err error
		if r.Payload, err = f.compressor.decompress(p.rest); err != nil {
			return corrupt(err.Error())
		}
	}
	return r, nil
}

// parser takes a header apart. Beyond the end there are zeros.
type parser struct {
	rest  []byte
	short bool // it was read beyond the end
}

func (p *parser) varint() uint64 {
	value, n := binary.Uvarint(p.rest)
	p.bytes(uint64(max(n, 0)))
	p.short = p.short || n <= 0
	return value
}

func (p *parser) bytes(n uint64) []byte {
	if n > uint64(len(p.rest)) {
		p.short = true
		return nil
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *parser) uint32() uint32 {
	if b := p.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 { return uint64(p.uint32())<<32 | uint64(p.uint32()) }
