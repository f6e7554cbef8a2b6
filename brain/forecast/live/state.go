package live

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/forecast"
)

// states keeps what services have learnt, in a bucket of the store: name -> state.
type states struct{ db *bolt.DB }

var bucketName = []byte("forecasts")

// state is what a service had learnt at a time. The data is in the history.
type state struct {
	End                  time.Time // of the last minute that was known
	Fitted               time.Time
	Excluded             []time.Time // minutes that are not learnt from
	Forecaster, Detector []byte
}

// current is how old a state may be to go on from.
const current = 3 * forecast.Day

func openStates(db *bolt.DB) (states, error) {
	err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err != nil {
		return states{}, fmt.Errorf("opening the forecasts: %w", err)
	}
	return states{db}, nil
}

// load returns the state of a service, false when there is none.
func (st states) load(name string) (s state, found bool, err error) {
	var data []byte
	err = st.db.View(func(tx *bolt.Tx) error {
		data = bytes.Clone(tx.Bucket(bucketName).Get([]byte(name)))
		return nil
	})
	if err != nil || data == nil {
		return state{}, false, err
	}
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return state{}, false, fmt.Errorf("the saved state is damaged: %w", err)
	}
	return s, true, nil
}

func (st states) save(name string, s state) error {
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(s); err != nil {
		return err
	}
	return st.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketName).Put([]byte(name), data.Bytes()) })
}

func (st states) remove(name string) error {
	return st.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketName).Delete([]byte(name)) })
}

// names returns those of the services that have a state.
func (st states) names() (map[string]bool, error) {
	names := make(map[string]bool)
	return names, st.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).ForEach(func(name, _ []byte) error {
			names[string(name)] = true
			return nil
		})
	})
}

// save writes what a service has learnt.
func (f *Forecasts) save(name string) error {
	f.mu.Lock()
	s := f.services[name]
	if s == nil || s.forecaster == nil {
		f.mu.Unlock()
		return nil
	}
	st := state{End: s.end(), Fitted: s.fitted}
	for _, step := range s.data.Excluded() {
		st.Excluded = append(st.Excluded, s.data.Time(step))
	}
	var err error
	if st.Forecaster, err = s.forecaster.MarshalBinary(); err == nil {
		st.Detector, err = s.detector.MarshalBinary()
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.states.save(name, st)
}

// restore has a service go on from its saved state, with what has come since. It returns nil without a state that is of use.
func (f *Forecasts) restore(ctx context.Context, name string, end time.Time) (*service, error) {
	st, found, err := f.states.load(name)
	if err != nil || !found || st.End.After(end) || end.Sub(st.End) > current {
		return nil, err
	}
	all := f.readKnown(name, end)
	known := int(st.End.Sub(all.Start) / f.step)
	if known <= 0 {
		return nil, nil
	}
	s := &service{data: cut(all, known), detector: forecast.Detector{Seed: f.o.Seed}, fitted: st.Fitted}
	for _, t := range st.Excluded {
		if step := int(t.Sub(all.Start) / f.step); step >= 0 {
			s.data.Exclude(step)
		}
	}
	if s.forecaster, err = f.forecaster(s.data); err != nil {
		return nil, err
	}
	if err := s.forecaster.UnmarshalBinary(st.Forecaster); err != nil {
		return nil, err
	}
	if err := s.detector.UnmarshalBinary(st.Detector); err != nil {
		return nil, err
	}
	return s, s.replay(ctx, all)
}
