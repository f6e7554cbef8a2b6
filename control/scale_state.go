package control

import (
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/scale"
)

// scaleState is what is kept of scaling a service.
type scaleState struct {
	Ordered int               `json:"ordered"` // how many there shall be by the latest order, 0 is none
	At      time.Time         `json:"at"`      // of it, by the calendar
	Guard   scale.GuardState  `json:"guard"`
	Rate    scale.RateLearner `json:"rate"`
	Bursts  scale.Burstiness  `json:"bursts"`
}

// ScalePause is a time in which nothing is started or ended.
type ScalePause struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero" doc:"Absent: until it is resumed"`
	Reason string    `json:"reason,omitempty"`
}

// String returns for example "since 2026-11-25T12:00:00Z until 2026-11-25T14:00:00Z: release".
func (p ScalePause) String() string {
	text := "since " + p.Since.Format(time.RFC3339)
	if !p.Until.IsZero() {
		text += " until " + p.Until.Format(time.RFC3339)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// scaleStates keeps states and pauses in buckets of the store: service -> JSON.
type scaleStates struct{ db *bolt.DB }

var (
	scaleBucket  = []byte("scale")
	pausesBucket = []byte("scale-pauses")
)

// allServices is the key of what concerns all; it is no name.
const allServices = AllServices

func openScaleStates(db *bolt.DB) (scaleStates, error) {
	err := db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(scaleBucket); err != nil {
			return err
		}
		_, err := tx.CreateBucketIfNotExists(pausesBucket)
		return err
	})
	if err != nil {
		return scaleStates{}, fmt.Errorf("opening what is kept of scaling: %w", err)
	}
	return scaleStates{db}, nil
}

// load returns the state of a service, zero when there is none.
func (st scaleStates) load(service string) (s scaleState, err error) {
	err = st.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(scaleBucket).Get([]byte(service))
		if data == nil {
			return nil
		}
		return json.Unmarshal(data, &s)
	})
	return s, err
}

// save replaces the states of services.
func (st scaleStates) save(all map[string]scaleState) error {
	return st.db.Update(func(tx *bolt.Tx) error {
		for service, s := range all {
			if err := putJSON(tx.Bucket(scaleBucket), service, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// remove removes what is kept of a service.
func (st scaleStates) remove(service string) error {
	return st.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(scaleBucket).Delete([]byte(service)); err != nil {
			return err
		}
		return tx.Bucket(pausesBucket).Delete([]byte(service))
	})
}

// pauses returns all, by service.
func (st scaleStates) pauses() (map[string]ScalePause, error) {
	all := make(map[string]ScalePause)
	err := st.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(pausesBucket).ForEach(func(k, data []byte) error {
			var p ScalePause
			if err := json.Unmarshal(data, &p); err != nil {
				return fmt.Errorf("the pause of %s: %w", k, err)
			}
			all[string(k)] = p
			return nil
		})
	})
	return all, err
}

// pause keeps a pause, or ends it when p is nil.
func (st scaleStates) pause(service string, p *ScalePause) error {
	return st.db.Update(func(tx *bolt.Tx) error {
		if p == nil {
			return tx.Bucket(pausesBucket).Delete([]byte(service))
		}
		return putJSON(tx.Bucket(pausesBucket), service, *p)
	})
}

func putJSON(bucket *bolt.Bucket, key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.Put([]byte(key), data)
}
