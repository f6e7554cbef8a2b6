package l2

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// fixture is an embedded store on a clock of its own.
type fixture struct {
	*testing.T
	*Embedded
	time time.Time
	path string
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, time: time.Unix(1764057600, 0), path: filepath.Join(t.TempDir(), "cache.db")}
	f.open()
	return f
}

func (f *fixture) open() {
	f.Helper()
	e, err := OpenEmbedded(f.path, func() time.Time { return f.time })
	if err != nil {
		f.Fatal(err)
	}
	f.Embedded = e
	f.Cleanup(func() { e.Close() })
}

func (f *fixture) put(key string, at int64, data string, keep time.Duration) {
	f.Helper()
	if err := f.Put(f.Context(), key, time.Unix(at, 0), []byte(data), keep); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) invalidate(key string, at int64) {
	f.Helper()
	if err := f.Invalidate(f.Context(), key, time.Unix(at, 0), time.Minute); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) expect(key, want string) {
	f.Helper()
	if got, err := f.Get(f.Context(), key); err != nil || string(got) != want {
		f.Fatalf("got %q, %v for %s, not %q", got, err, key, want)
	}
}

// Records are replaced by later ones only, whatever order they come in.
func TestOrder(t *testing.T) {
	f := newFixture(t)
	f.expect("a", "")
	f.put("a", 10, "ten", time.Minute)
	f.put("a", 9, "nine", time.Minute)
	f.expect("a", "ten")
	f.put("a", 10, "ten again", time.Minute)
	f.expect("a", "ten again")
	f.put("a", 11, "eleven", time.Minute)
	f.expect("a", "eleven")
	f.invalidate("a", 10) // of something older
	f.expect("a", "eleven")
	f.invalidate("a", 12)
	f.expect("a", "")
	f.put("a", 12, "twelve", time.Minute)
	f.expect("a", "")
	f.put("a", 13, "thirteen", time.Minute)
	f.expect("a", "thirteen")
	f.expect("b", "")
}

func TestKeep(t *testing.T) {
	f := newFixture(t)
	f.put("a", 10, "ten", time.Minute)
	f.invalidate("b", 10)
	f.time = f.time.Add(time.Minute)
	f.expect("a", "")
	f.put("a", 9, "nine", time.Minute) // what is forgotten holds nothing up
	f.put("b", 9, "nine", time.Minute)
	f.expect("a", "nine")
	f.expect("b", "nine")
}

func TestSweep(t *testing.T) {
	f := newFixture(t)
	const short, long = 2*sweepItems + 7, 300
	for i := range short + long {
		keep := time.Second
		if i%10 == 0 && i/10 < long {
			keep = time.Hour
		}
		f.put(fmt.Sprintf("%05d", i), 10, "data", keep)
	}
	f.time = f.time.Add(time.Minute)
	if err := f.Sweep(); err != nil {
		t.Fatal(err)
	}
	left := 0
	_ = f.db.View(func(tx *bolt.Tx) error {
		left = tx.Bucket(records).Stats().KeyN
		return nil
	})
	if want := min(long, (short+long+9)/10); left != want {
		t.Errorf("%d records are left, not %d", left, want)
	}
	f.expect("00010", "data")
	f.expect("00011", "")
}

// The file outlives the process; one that is in use, or is something else, is left alone.
func TestFile(t *testing.T) {
	f := newFixture(t)
	f.put("a", 10, "ten", time.Minute)
	if other, err := OpenEmbedded(f.path, nil); err == nil {
		other.Close()
		t.Fatal("a file was opened twice")
	} else {
		t.Log(err)
	}
	f.expect("a", "ten")
	f.Close()
	f.open()
	f.expect("a", "ten")
	f.Close()
	if err := os.WriteFile(f.path, []byte("no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := OpenEmbedded(f.path, nil); err == nil {
		other.Close()
		t.Fatal("something else was opened")
	} else {
		t.Log(err)
	}
	if text, err := os.ReadFile(f.path); err != nil || string(text) != "no database at all" {
		t.Errorf("it now has %q, %v", text, err)
	}
}
