package control

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The layout of the store. A daemon refuses a store of another version.
var (
	metaBucket     = []byte("meta")
	servicesBucket = []byte("services") // name -> Service as JSON
	versionKey     = []byte("version")
	storeVersion   = []byte("1")
)

// storeLockTimeout is how long to wait for a daemon that is just ending.
const storeLockTimeout = 2 * time.Second

// Store keeps the desired state in a file. It is safe for concurrent use.
type Store struct {
	db *bolt.DB

	mu       sync.Mutex
	manifest Manifest // what the file holds, sorted by name
}

// OpenStore opens the store, or creates it and its directory. One process at a time can have it open.
func OpenStore(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("creating the store's directory: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: storeLockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("the store %s is in use: is another daemon running?", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	s := &Store{db: db}
	if err := db.Update(s.load); err != nil {
		db.Close()
		return nil, fmt.Errorf("reading the store %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) load(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	switch version := meta.Get(versionKey); {
	case version == nil:
		if err := meta.Put(versionKey, storeVersion); err != nil {
			return err
		}
	case string(version) != string(storeVersion):
		return fmt.Errorf("it has version %s, this program needs %s", version, storeVersion)
	}
	if err := s.manifest.loadEvents(meta); err != nil {
		return err
	}
	services, err := tx.CreateBucketIfNotExists(servicesBucket)
	if err != nil {
		return err
	}
	// bbolt iterates in byte order, which is the order of names.
	return services.ForEach(func(name, data []byte) error {
		var service Service
		if err := json.Unmarshal(data, &service); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
		service.Backends = slices.Clone(service.Backends) // without the room that decoding has left
		s.manifest.Services = append(s.manifest.Services, service)
		return nil
	})
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Manifest returns the desired state, sorted by name. Its services are shared: they must not be modified.
func (s *Store) Manifest() Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manifest
}

// Update changes the desired state: change gets a Manifest of its own whose services are shared, so it
// replaces a service rather than modify it. When change or writing fails nothing is changed at all;
// when Update returns nil the new state is on the disk. Updates are made one after the other; committed,
// which may be nil, is called with the new state before the next one begins.
func (s *Store) Update(change func(*Manifest) error, committed func(Manifest)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := Manifest{Services: slices.Clone(s.manifest.Services), Events: slices.Clone(s.manifest.Events)}
	if err := change(&next); err != nil {
		return err
	}
	slices.SortFunc(next.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	sortEvents(next.Events)
	err := s.db.Update(func(tx *bolt.Tx) error {
		return errors.Join(write(tx.Bucket(servicesBucket), s.manifest, next), writeEvents(tx.Bucket(metaBucket), s.manifest, next))
	})
	if err != nil {
		return fmt.Errorf("writing the store: %w", err)
	}
	s.manifest = next
	if committed != nil {
		committed(next)
	}
	return nil
}

// write brings the bucket from one state to another, both sorted by name.
func write(bucket *bolt.Bucket, from, to Manifest) error {
	old := from.Services
	for i := range to.Services {
		service := &to.Services[i]
		for len(old) > 0 && old[0].Name < service.Name {
			if err := bucket.Delete([]byte(old[0].Name)); err != nil {
				return err
			}
			old = old[1:]
		}
		if len(old) > 0 && old[0].Name == service.Name {
			before := &old[0]
			old = old[1:]
			if service.equal(before) {
				continue
			}
		}
		data, err := json.Marshal(service)
		if err != nil {
			return err
		}
		if err := bucket.Put([]byte(service.Name), data); err != nil {
			return err
		}
	}
	for i := range old {
		if err := bucket.Delete([]byte(old[i].Name)); err != nil {
			return err
		}
	}
	return nil
}
