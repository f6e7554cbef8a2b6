package record

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Codec turns values of one type into payloads and back. Safe for concurrent use.
type Codec[T any] interface {
	Encode(T) ([]byte, error)
	Decode([]byte) (T, error)
}

// Bytes is the codec of values that are payloads already.
type Bytes struct{}

// Encode returns value itself.
func (Bytes) Encode(value []byte) ([]byte, error) { return value, nil }

// Decode returns payload itself.
func (Bytes) Decode(payload []byte) ([]byte, error) { return payload, nil }

// MessagePack is the codec of any other type: structures are arrays of their fields in order, without names, so whoever
// adds, removes or moves a field must raise the schema of the records.
type MessagePack[T any] struct{}

// usual is the room that an encoding begins with, bytes.
const usual = 512

// Encode returns an error only for types that MessagePack cannot have, such as channels.
func (MessagePack[T]) Encode(value T) ([]byte, error) {
	payload := bytes.NewBuffer(make([]byte, 0, usual))
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	e.Reset(payload)
	e.UseArrayEncodedStructs(true)
	e.UseCompactInts(true)
	e.UseCompactFloats(true)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encoding a %T: %w", value, err)
	}
	return payload.Bytes(), nil
}

// Decode returns an error for what is no MessagePack of a T, and for what follows one.
func (MessagePack[T]) Decode(payload []byte) (value T, err error) {
	defer func() { // a field's own decoder may trip over bytes that it never wrote
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("decoding a %T: %v", value, trouble)
		}
	}()
	if !wellFormed(payload) {
		return value, fmt.Errorf("decoding a %T: it is no MessagePack value", value)
	}
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(bytes.NewReader(payload))
	if err := d.Decode(&value); err != nil {
		return value, fmt.Errorf("decoding a %T: %w", value, err)
	}
	return value, nil
}
