package control

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What was committed is there after a restart; what failed has left no trace.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "sluice.db")
	store, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	r := testRules()
	committed := 0
	edit := func(text string, after error) error {
		return store.Update(func(m *Manifest) error {
			_, err := r.apply(m, ApplyRequest{Services: parse(t, text).Services})
			return errors.Join(err, after)
		}, func(Manifest) { committed++ })
	}
	if err := edit(web, nil); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no")
	if err := edit("services: [{name: lost, address: 192.0.2.8}]", failure); !errors.Is(err, failure) {
		t.Errorf("error is %v", err)
	}
	want := store.Manifest()
	if len(want.Services) != 1 || committed != 1 {
		t.Errorf("%d services, %d commits", len(want.Services), committed)
	}
	if _, err := OpenStore(path); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("opening twice: error is %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if difference := cmp.Diff(want, again.Manifest(), cmpOptions); difference != "" {
		t.Errorf("after a restart (-want +got):\n%s", difference)
	}
}
