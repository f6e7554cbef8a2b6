package record

import (
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"
)

// Payloads shorter than smallest are not worth a try; without a dictionary, those shorter than smallestAlone: most of a short
// zstd frame is its tables, and a try costs as much time as MessagePack takes to encode and decode. Both bytes.
const (
	smallest      = 64
	smallestAlone = 1024
)

// worth is what a compressed payload may have of the plain one's length: it must save 20 %.
const worth = 0.8

type compressor struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	id      uint32 // of the dictionary; 0: there is none
}

func newCompressor(dictionary []byte) (*compressor, error) {
	c := new(compressor)
	encoding := []zstd.EOption{zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true)}
	decoding := []zstd.DOption{zstd.WithDecoderMaxMemory(MaxPayload), zstd.WithDecoderConcurrency(0)}
	if len(dictionary) > 0 {
		c.id = max(crc32.Checksum(dictionary, castagnoli), 1)
		encoding = append(encoding, zstd.WithEncoderDictRaw(c.id, dictionary))
		decoding = append(decoding, zstd.WithDecoderDictRaw(c.id, dictionary))
	}
	var err error
	if c.encoder, err = zstd.NewWriter(nil, encoding...); err != nil {
		return nil, fmt.Errorf("preparing zstd: %w", err)
	}
	if c.decoder, err = zstd.NewReader(nil, decoding...); err != nil {
		return nil, fmt.Errorf("preparing zstd: %w", err)
	}
	return c, nil
}

// compress returns the payload as it is to be stored, and its flags.
func (c *compressor) compress(payload []byte) ([]byte, byte) {
	if len(payload) < smallest || c.id == 0 && len(payload) < smallestAlone {
		return payload, 0
	}
	compressed := c.encoder.EncodeAll(payload, make([]byte, 0, len(payload)))
	if float64(len(compressed)) > worth*float64(len(payload)) {
		return payload, 0
	}
	if c.id != 0 {
		return compressed, flagCompressed | flagDictionary
	}
	return compressed, flagCompressed
}

func (c *compressor) decompress(compressed []byte) ([]byte, error) {
	payload, err := c.decoder.DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return payload, nil
}
