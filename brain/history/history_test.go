package history

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// testStore opens a real store in a file.
func testStore(t testing.TB, path string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func testHistory(t testing.TB) *History {
	t.Helper()
	h, err := Open(testStore(t, filepath.Join(t.TempDir(), "store.db")), Options{})
	must(t, err)
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// row is one of which only the new flows are known.
func row(flows float32) Row {
	r := Absent()
	r[NewFlows] = flows
	return r
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// record writes minutes of the service web from a time on, those of a service each time.
func record(t testing.TB, h *History, from time.Time, flows ...float32) {
	t.Helper()
	for i, v := range flows {
		at := from.Add(time.Duration(i) * time.Minute)
		must(t, h.Record([]Minute{{At: at, Rows: map[string]Row{"web": row(v)}}}, at))
	}
}

// text is what is known of a service in some minutes, such as "1 2 - 4".
func text(t testing.TB, h *History, service string, from time.Time, minutes int) string {
	t.Helper()
	rows, err := h.Read(service, from, from.Add(time.Duration(minutes)*time.Minute))
	must(t, err)
	if len(rows) != minutes {
		t.Fatalf("%d rows of %d", len(rows), minutes)
	}
	var words []string
	for _, r := range rows {
		if !r.Known() {
			words = append(words, "-")
		} else {
			words = append(words, fmt.Sprint(r[NewFlows]))
		}
	}
	return strings.Join(words, " ")
}

func expect(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// Minutes come back, across hours and after the store was opened anew, and those between are absent.
func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db := testStore(t, path)
	h, err := Open(db, Options{})
	must(t, err)
	record(t, h, noon.Add(-2*time.Minute), 1, 2, 3)
	record(t, h, noon.Add(3*time.Minute+59*time.Second), 4)
	must(t, db.Close())
	h, err = Open(testStore(t, path), Options{})
	must(t, err)
	expect(t, text(t, h, "web", noon.Add(-3*time.Minute), 9), "- 1 2 3 - - 4 - -")
	expect(t, text(t, h, "we", noon, 2), "- -")
	expect(t, text(t, h, "web", noon.Add(-Retention), 1), "-")
	expect(t, text(t, h, "web", time.Unix(-120, 0), 3), "- - -")
}

// A minute that is known does not change any more, but what was not known of it is added.
func TestPastStays(t *testing.T) {
	h := testHistory(t)
	record(t, h, noon, 1, 2, 3)
	record(t, h, noon.Add(time.Minute), 9, 9, 4)
	expect(t, text(t, h, "web", noon, 5), "1 2 3 4 -")
	more := Absent()
	more[Packets] = 7
	must(t, h.Record([]Minute{{At: noon, Rows: map[string]Row{"web": more}}}, time.Time{}))
	rows, err := h.Read("web", noon, noon.Add(time.Minute))
	must(t, err)
	if rows[0][NewFlows] != 1 || rows[0][Packets] != 7 {
		t.Errorf("%v", rows[0])
	}
}

// What is too old, or too far in the future, is deleted, of every service, but not without a time that is right.
func TestRetention(t *testing.T) {
	h := testHistory(t)
	write := func(at, now time.Time) {
		must(t, h.Record([]Minute{{At: at, Rows: map[string]Row{"web": row(1), "gone": row(2)}}}, now))
	}
	old, future := noon.Add(-Retention-time.Hour), noon.Add(Future+time.Hour)
	for _, at := range []time.Time{old, old.Add(time.Hour), noon, future} {
		write(at, time.Time{})
	}
	known := func() (known int) {
		for _, service := range []string{"web", "gone"} {
			for _, at := range []time.Time{old, old.Add(time.Hour), noon, noon.Add(time.Minute), future} {
				if text(t, h, service, at, 1) != "-" {
					known++
				}
			}
		}
		return known
	}
	if n := known(); n != 8 {
		t.Errorf("%d minutes are known of 8", n)
	}
	write(noon.Add(time.Minute), noon)
	if n := known(); n != 6 {
		t.Errorf("%d minutes are known, want 6", n)
	}
	expect(t, text(t, h, "web", old, 1), "-")
	expect(t, text(t, h, "gone", future, 1), "-")
}

// Corrupt blocks are gaps. Each is reported once, and the rest of its hour is kept again.
func TestCorrupt(t *testing.T) {
	db := testStore(t, filepath.Join(t.TempDir(), "store.db"))
	var log bytes.Buffer
	h, err := Open(db, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	record(t, h, noon.Add(-time.Minute), 1, 2, 3)
	hour, _ := split(h.minute(noon))
	must(t, db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		data := bytes.Clone(bucket.Get(key(hour, "web")))
		data[len(data)/2] ^= 4
		return errors.Join(bucket.Put(key(hour, "web"), data), bucket.Put(key(hour+1, "web"), nil))
	}))
	for range 3 {
		expect(t, text(t, h, "web", noon.Add(-time.Minute), 70), "1"+strings.Repeat(" -", 69))
	}
	if lines := strings.Count(log.String(), "an hour of the history is lost"); lines != 2 {
		t.Errorf("it was reported %d times:\n%s", lines, &log)
	}
	record(t, h, noon.Add(2*time.Minute), 4)
	expect(t, text(t, h, "web", noon, 4), "- - 4 -")
}

// A reader sees all of a transaction or nothing, while minutes are written and old ones deleted.
func TestReadWhileRecording(t *testing.T) {
	h := testHistory(t)
	var reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				rows, err := h.Read("web", noon, noon.Add(4*time.Hour))
				if err != nil {
					t.Error(err)
					return
				}
				for i, r := range rows {
					if known := r.Known(); known && r[NewFlows] != float32(i) || !known && i > 0 && i%2 == 1 && rows[i-1].Known() {
						t.Errorf("minute %d has %v", i, r)
						return
					}
				}
			}
		})
	}
	for i := 0; i < 240; i += 2 {
		var two []Minute
		for j := range 2 {
			two = append(two, Minute{noon.Add(time.Duration(i+j) * time.Minute), map[string]Row{"web": row(float32(i + j)), "dns": row(1)}})
		}
		must(t, h.Record(two, noon))
	}
	close(done)
	reading.Wait()
}

// BenchmarkHistory writes and reads 90 days of minutes of a busy service, and tells what they take.
func BenchmarkHistory(b *testing.B) {
	for range b.N {
		path := filepath.Join(b.TempDir(), "store.db")
		h, err := Open(testStore(b, path), Options{})
		must(b, err)
		minutes := int(Retention / time.Minute)
		rows := make([]Row, minutes)
		for i := range rows {
			rows[i] = busyRow(i)
		}
		must(b, h.update(func(bucket *bolt.Bucket) error { return h.put(bucket, "web", h.minute(noon), rows, replacing) }))
		began := time.Now()
		read, err := h.Read("web", noon, noon.Add(Retention))
		must(b, err)
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms/read")
		if read[minutes-1] != rows[minutes-1] {
			b.Fatal("it is not the same")
		}
		blocks := 0
		must(b, h.db.View(func(tx *bolt.Tx) error {
			return tx.Bucket(bucketName).ForEach(func(_, data []byte) error { blocks += len(data); return nil })
		}))
		info, err := os.Stat(path)
		must(b, err)
		b.ReportMetric(float64(blocks)/float64(minutes), "B/minute")
		b.ReportMetric(float64(info.Size())/float64(minutes), "B-of-file/minute")
	}
}

// BenchmarkRecord writes a minute of 1,000 services.
func BenchmarkRecord(b *testing.B) {
	h := testHistory(b)
	for i := range b.N {
		rows := make(map[string]Row)
		for n := range 1000 {
			rows[fmt.Sprintf("service-%d", n)] = busyRow(1000*i + n)
		}
		at := noon.Add(time.Duration(i) * time.Minute)
		must(b, h.Record([]Minute{{at, rows}}, at))
	}
}
