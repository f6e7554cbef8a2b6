package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func openStore(t *testing.T) *Store {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := OpenStore(db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noting is an Actor that notes what it does; steps whose param is "fail" fail, and "unable" ones cannot be undone.
type noting struct{ did []string }

func (n *noting) Do(ctx context.Context, s Step, token uint64) error {
	n.did = append(n.did, fmt.Sprintf("%s/%d", s.ID, token))
	switch {
	case s.Params["slow"] != "":
		<-ctx.Done()
		return ctx.Err()
	case s.Params["fail"] != "":
		return errors.New("out of stock")
	}
	return nil
}

func (n *noting) Undo(_ context.Context, s Step, token uint64) error {
	n.did = append(n.did, fmt.Sprintf("-%s/%d", s.ID, token))
	if s.Params["unable"] != "" {
		return errors.New("it stays")
	}
	return nil
}

// states are those of the steps in order, and the plan's.
func states(p *Plan) string {
	var all []string
	p.steps(func(s *Step) bool { all = append(all, string(s.State)); return true })
	return strings.Join(all, " ") + ": " + string(p.State)
}

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		params     map[string]string // of step b: "fail", "slow"; of a: "unable"
		critical   bool
		did, state string
		want       string // of the error
	}{
		"all is well":      {nil, true, "a/7 b/7 c/7", "done done done: done", ""},
		"not critical":     {map[string]string{"b": "fail"}, false, "a/7 b/7 c/7", "done failed done: done", ""},
		"critical":         {map[string]string{"b": "fail"}, true, "a/7 b/7 -b/7 -a/7", "undone undone skipped: rolled-back", "step b: out of stock"},
		"too slow":         {map[string]string{"b": "slow"}, true, "a/7 b/7 -b/7 -a/7", "undone undone skipped: rolled-back", "not within 50ms"},
		"cannot be undone": {map[string]string{"b": "fail", "a": "unable"}, true, "a/7 b/7 -b/7 -a/7", "undo-failed undone skipped: failed", "rolled back"},
	} {
		store := openStore(t)
		var all []Recommendation
		for i, id := range []string{"a", "b", "c"} {
			r := Recommendation{ID: id, Action: "do", Target: id, Critical: c.critical && id == "b", Timeout: 50 * time.Millisecond}
			if p := c.params[id]; p != "" {
				r.Params = map[string]string{p: "yes"}
			}
			if i > 0 {
				r.Needs = []string{all[i-1].ID}
			}
			all = append(all, r)
		}
		p, err := Policy{}.Make(time.Now(), 7, "test", all)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Add(p); err != nil {
			t.Fatal(err)
		}
		actor := new(noting)
		runner := &Runner{Store: store, Actors: map[string]Actor{"do": actor}, Token: func() (uint64, error) { return 7, nil }}
		err = runner.Run(t.Context(), p)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrRolledBack)) {
			t.Errorf("%s: %v", name, err)
		}
		kept, err := store.Get(p.Number)
		if err != nil || states(kept) != c.state || strings.Join(actor.did, " ") != c.did {
			t.Errorf("%s: %s after %v (%v)", name, states(kept), actor.did, err)
		}
		before := len(actor.did)
		if runner.Run(t.Context(), kept); len(actor.did) != before {
			t.Errorf("%s: a plan that has ended is carried out again: %v", name, actor.did)
		}
	}
}

// Without the lease nothing is done, and the plan waits.
func TestRunWithoutLease(t *testing.T) {
	store := openStore(t)
	p, err := Policy{}.Make(time.Now(), 1, "test", []Recommendation{{ID: "a", Action: "do"}})
	if err != nil || store.Add(p) != nil {
		t.Fatal(err)
	}
	actor := new(noting)
	lost := errors.New("the lease is another's")
	runner := &Runner{Store: store, Actors: map[string]Actor{"do": actor}, Token: func() (uint64, error) { return 0, lost }}
	if err := runner.Run(t.Context(), p); !errors.Is(err, lost) || len(actor.did) > 0 {
		t.Errorf("%v, after %v", err, actor.did)
	}
	runner.Token = func() (uint64, error) { return 2, nil }
	if err := runner.Resume(t.Context()); err != nil || strings.Join(actor.did, " ") != "a/2" {
		t.Errorf("%v, after %v", err, actor.did)
	}
	p, _ = Policy{}.Make(time.Now(), 1, "test", []Recommendation{{ID: "a", Action: "fly"}})
	if err := runner.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), `"fly"`) {
		t.Errorf("nobody flies: %v", err)
	}
}

// The latest plans are kept, and those that have not ended.
func TestStoreExpires(t *testing.T) {
	store := openStore(t)
	store.db.NoSync = true
	for i := range keptPlans + 20 {
		p := &Plan{State: Done}
		if i == 3 {
			p.State = RollingBack
		}
		if err := store.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	plans, err := store.List()
	if err != nil || len(plans) != keptPlans+1 || plans[0].Number != 4 || plans[1].Number != 21 {
		t.Errorf("%d plans are kept (%v), the first are %v and %v", len(plans), err, plans[0], plans[1])
	}
	if p, err := store.Get(2); p != nil || err != nil {
		t.Errorf("plan 2: %v, %v", p, err)
	}
}

// TestAbort gives a plan up while its second step waits: both are undone, and the record says why.
func TestAbort(t *testing.T) {
	store := openStore(t)
	p, err := Policy{}.Make(time.Now(), 7, "test", []Recommendation{
		{ID: "a", Action: "do", Target: "web"}, {ID: "b", Action: "do", Target: "news", Needs: []string{"a"}, Params: map[string]string{"slow": "yes"}},
		{ID: "c", Action: "do", Target: "shop", Needs: []string{"b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(p); err != nil {
		t.Fatal(err)
	}
	actor := &noting{}
	r := Runner{Store: store, Actors: map[string]Actor{"do": actor}, Token: func() (uint64, error) { return 7, nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Run(ctx, p); !errors.Is(err, context.DeadlineExceeded) || p.Ended() || p.Cause() != "" {
		t.Fatalf("interrupted: %v, %s", err, states(p))
	}
	for range 2 { // the second time nothing is left to do
		if err := r.Abort(t.Context(), p, "it is needed"); !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "it is needed") {
			t.Errorf("aborting: %v", err)
		}
	}
	kept, err := store.Get(p.Number)
	if err != nil {
		t.Fatal(err)
	}
	if got := states(kept); got != "undone undone skipped: rolled-back" || kept.Cause() != "it is needed" || kept.Phases[1][0].Error != "aborted: it is needed" {
		t.Errorf("recorded is %s, %q, %q", got, kept.Cause(), kept.Phases[1][0].Error)
	}
	if got := strings.Join(actor.did, " "); got != "a/7 b/7 -b/7 -a/7" {
		t.Errorf("it did %s", got)
	}
}
