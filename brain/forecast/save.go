package forecast

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
)

// savedVersion begins all that save writes; what another version wrote is not loaded, and learnt anew.
const savedVersion = 1

// save returns values with exported fields as bytes.
func save(values ...any) ([]byte, error) {
	var out bytes.Buffer
	encoder := gob.NewEncoder(&out)
	for _, v := range append([]any{savedVersion}, values...) {
		if err := encoder.Encode(v); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// load reads what save returned, into pointers to values of the same types.
func load(saved []byte, values ...any) error {
	decoder := gob.NewDecoder(bytes.NewReader(saved))
	var version int
	if err := decoder.Decode(&version); err != nil {
		return fmt.Errorf("no saved model: %w", err)
	}
	if version != savedVersion {
		return errors.New("saved by another version")
	}
	for _, v := range values {
		if err := decoder.Decode(v); err != nil {
			return fmt.Errorf("the saved model is damaged: %w", err)
		}
	}
	return nil
}
