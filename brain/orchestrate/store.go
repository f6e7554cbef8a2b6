package orchestrate

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Store keeps plans in a bucket of a bbolt store: number -> JSON. It is safe for concurrent use.
type Store struct{ db *bolt.DB }

var bucketName = []byte("plans")

// OpenStore returns the plans in a store that is open, which stays the caller's to close.
func OpenStore(db *bolt.DB) (*Store, error) {
	err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the plans: %w", err)
	}
	return &Store{db}, nil
}

// keptPlans are the latest plans that are kept.
const keptPlans = 1000

// Add gives the plan the next number, and its steps their keys, and keeps it. The oldest plans that have ended are deleted.
func (s *Store) Add(p *Plan) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		number, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		p.Number = number
		p.steps(func(step *Step) bool {
			step.Key = fmt.Sprintf("%d-%s", number, step.ID)
			return true
		})
		if err := put(bucket, p); err != nil {
			return err
		}
		return expire(bucket, number)
	})
}

// expire deletes the oldest plans that have ended.
func expire(bucket *bolt.Bucket, newest uint64) error {
	cursor := bucket.Cursor()
	for k, v := cursor.First(); k != nil && binary.BigEndian.Uint64(k)+keptPlans <= newest; k, v = cursor.Next() {
		var p Plan
		if json.Unmarshal(v, &p) == nil && !p.Ended() {
			continue
		}
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Put keeps what has become of a plan. When it returns nil that is on the disk.
func (s *Store) Put(p *Plan) error {
	return s.db.Update(func(tx *bolt.Tx) error { return put(tx.Bucket(bucketName), p) })
}

func put(bucket *bolt.Bucket, p *Plan) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return bucket.Put(key(p.Number), data)
}

func key(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// Get returns a plan, nil when there is none of that number.
func (s *Store) Get(number uint64) (*Plan, error) {
	var p *Plan
	err := s.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(bucketName).Get(key(number))
		if data == nil {
			return nil
		}
		p = new(Plan)
		return json.Unmarshal(data, p)
	})
	if err != nil {
		return nil, fmt.Errorf("reading plan %d: %w", number, err)
	}
	return p, nil
}

// List returns the plans, the oldest first.
func (s *Store) List() (plans []*Plan, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).ForEach(func(k, data []byte) error {
			p := new(Plan)
			if err := json.Unmarshal(data, p); err != nil {
				return fmt.Errorf("reading plan %d: %w", binary.BigEndian.Uint64(k), err)
			}
			plans = append(plans, p)
			return nil
		})
	})
	return plans, err
}
