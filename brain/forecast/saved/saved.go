// Package saved turns the numbers of a model into bytes and back. What is damaged, or is of another kind or
// version, is refused with an error.
//
// The form, little-endian: four bytes that name the kind, the version, the values one after the other, a list
// with its length before it, and the CRC-32C of all that. Lengths, versions and checksum are uint32.
package saved

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
)

const (
	lead  = 4 + 4 // bytes of kind and version
	trail = 4     // of the checksum
)

var (
	order      = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Encode returns the bytes of values: numbers of fixed size, structs of such, in which all fields are
// exported, and slices of either. kind has four bytes.
func Encode(kind string, version uint32, values ...any) ([]byte, error) {
	data := order.AppendUint32([]byte(kind), version)
	for _, value := range values {
		if v := reflect.ValueOf(value); v.Kind() == reflect.Slice {
			data = order.AppendUint32(data, uint32(v.Len()))
		}
		var err error
		if data, err = binary.Append(data, order, value); err != nil {
			return nil, err
		}
	}
	return Seal(data), nil
}

// Seal appends the checksum of data, without which Decode refuses it.
func Seal(data []byte) []byte { return order.AppendUint32(data, crc32.Checksum(data, castagnoli)) }

// Decode reads what Encode wrote into pointers to values of the same types.
func Decode(kind string, version uint32, data []byte, pointers ...any) error {
	if len(data) < lead+trail || string(data[:len(kind)]) != kind {
		return fmt.Errorf("this is no saved model of the kind %q", kind)
	}
	if found := order.Uint32(data[len(kind):]); found != version {
		return fmt.Errorf("the saved model has version %d and this program reads version %d: fit it anew", found, version)
	}
	body := data[:len(data)-trail]
	if crc32.Checksum(body, castagnoli) != order.Uint32(data[len(body):]) {
		return errors.New("the saved model is damaged (its checksum is wrong): fit it anew")
	}
	rest, err := body[lead:], error(nil)
	for _, pointer := range pointers {
		if rest, err = decode(rest, reflect.ValueOf(pointer)); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("the saved model is damaged (%d bytes too many): fit it anew", len(rest))
	}
	return nil
}

// decode reads one value, and returns the data after it.
func decode(data []byte, pointer reflect.Value) ([]byte, error) {
	if list := pointer.Elem(); list.Kind() == reflect.Slice {
		if len(data) < 4 {
			return nil, short()
		}
		length := uint64(order.Uint32(data))
		data = data[4:]
		if length*uint64(binary.Size(reflect.Zero(list.Type().Elem()).Interface())) > uint64(len(data)) {
			return nil, short()
		}
		list.Set(reflect.MakeSlice(list.Type(), int(length), int(length)))
		pointer = list
	}
	n, err := binary.Decode(data, order, pointer.Interface())
	if err != nil {
		return nil, short()
	}
	return data[n:], nil
}

func short() error { return errors.New("the saved model is damaged (it ends too soon): fit it anew") }
