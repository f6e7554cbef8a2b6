package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/dataplane"
)

// journalOf returns an API of nothing but a journal and the services of a manifest.
func journalOf(t *testing.T, text string) (*Daemon, *Client) {
	t.Helper()
	store, err := OpenStore(filepath.Join(t.TempDir(), "sluice.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	m := apply(t, testRules(), Manifest{}, parse(t, text), false)
	if err := store.Update(func(stored *Manifest) error { *stored = m; return nil }, func(Manifest) {}); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{store: store, reconciler: newReconciler(&recorder{}, DefaultConfig(), slog.New(slog.DiscardHandler), new(network).options())}
	t.Cleanup(d.reconciler.monitor.Close)
	socket := filepath.Join(t.TempDir(), "sluice.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(d.handler())
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return d, NewClient(socket)
}

func collect(t *testing.T, c *Client, r EventsRequest) (events []Event) {
	t.Helper()
	if err := c.Events(t.Context(), r, func(e Event) bool { events = append(events, e); return true }); err != nil {
		t.Fatal(err)
	}
	return events
}

// Old events make room for new ones, and numbers go on.
func TestJournalForgets(t *testing.T) {
	j := newJournal(slog.New(slog.DiscardHandler))
	const all = 2*kept + 5
	for n := range all {
		j.add(Event{Kind: EventState, Service: "web", Backend: "one", To: string(StateUp), Cause: fmt.Sprint(n)})
	}
	for after, want := range map[uint64]int{0: kept + 5, kept: kept + 5, all - 3: 3, all: 0, all + 9: 0} {
		events, _ := j.after(after, false)
		if len(events) != want {
			t.Errorf("%d events after %d, want %d", len(events), after, want)
		}
		for i, e := range events {
			if e.Number != uint64(all-want+i+1) || e.Cause != fmt.Sprint(e.Number-1) {
				t.Fatalf("event %d of those after %d is %+v", i, after, e)
			}
		}
	}
	if got := j.counted()[eventCount{"web", "one", "state", "up"}]; got != all {
		t.Errorf("%d are counted", got)
	}
}

// Counts end with what they are of.
func TestJournalCountsWhatIsThere(t *testing.T) {
	j := newJournal(slog.New(slog.DiscardHandler))
	for _, e := range []Event{
		{Kind: EventState, Service: "web", Backend: "one", To: "up"}, {Kind: EventState, Service: "web", Backend: "gone", To: "up"},
		{Kind: EventPanic, Service: "web"}, {Kind: EventPanic, Service: "gone"}, {Kind: EventPanic, Service: "other"},
		{Kind: EventPanic, Service: "old"},
	} {
		j.add(e)
	}
	is := &apply(t, testRules(), Manifest{}, parse(t, web), false).Services[0]
	j.forget([]revision{{&Service{Name: "old"}, is}, {&Service{Name: "web"}, nil}, {&Service{Name: "gone"}, nil}})
	counts := j.counted()
	if len(counts) != 3 || counts[eventCount{"other", "", "panic", ""}] != 1 || counts[eventCount{"web", "one", "state", "up"}] != 1 || counts[eventCount{"web", "", "panic", ""}] != 1 {
		t.Errorf("counted are %v", counts)
	}
}

func TestEventTexts(t *testing.T) {
	for want, e := range map[string]Event{
		"web/one up -> down: refused":              {Kind: EventState, Service: "web", Backend: "one", From: "up", To: "down", Cause: "refused"},
		"web/one weight 100% -> 45%: success 0.45": {Kind: EventWeight, Service: "web", Backend: "one", From: percent(1), To: percent(0.45), Cause: "success 0.45"},
		"web panic off -> on: too few are up":      {Kind: EventPanic, Service: "web", From: "off", To: "on", Cause: "too few are up"},
		"web panic on -> off":                      {Kind: EventPanic, Service: "web", From: "on", To: "off"},
	} {
		if got := e.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// What changed is told once; what is new has not changed.
func TestJournalNotes(t *testing.T) {
	s := &apply(t, testRules(), Manifest{}, parse(t, web), false).Services[0]
	now := time.Unix(1_000_000, 0)
	decision := func(state State, factor float64) health.Decision {
		return health.Decision{State: state, Factor: factor, Since: now, Cause: "because", Terms: health.Terms{Success: factor, Latency: 1, Handshakes: 1, Load: 1}}
	}
	change := func(i int, before, after health.Decision) changes {
		return changes{backends: []health.Change[netip.AddrPort]{{Key: s.Backends[i].place(), Before: before, After: after}}}
	}
	for name, test := range map[string]struct {
		changes changes
		want    []string
	}{
		"nothing":     {changes{}, nil},
		"state":       {change(0, decision(StateUp, 1), decision(StateDraining, 0)), []string{"web/one up -> draining: because"}},
		"weight":      {change(1, decision(StateUp, 1), decision(StateUp, 0.5)), []string{"web/two weight 100% -> 50%: success 0.50"}},
		"new":         {change(1, health.Decision{}, decision(StateUp, 0.1)), nil},
		"panic":       {changes{panics: []panicChange{{"canary", true}}}, []string{"web panic off -> on: set canary: too few backends are up, so all are used"}},
		"panic's end": {changes{panics: []panicChange{{"", false}}}, []string{"web panic on -> off"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(slog.New(slog.DiscardHandler))
			j.note(s, test.changes)
			events, _ := j.after(0, false)
			var got []string
			for _, e := range events {
				got = append(got, e.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// Events are told by service, also those from before it got its name, and from a number on.
func TestEventsOfOneService(t *testing.T) {
	d, client := journalOf(t, web)
	key := dataplane.ServiceKey{Address: d.store.Manifest().Services[0].Address, Port: 80, Protocol: dataplane.ProtocolTCP}
	for _, e := range []Event{{key: key, Service: "old-name"}, {Service: "other"}, {key: key, Service: "web"}} {
		d.reconciler.journal.add(e)
	}
	numbers := func(r EventsRequest) (list []uint64) {
		for _, e := range collect(t, client, r) {
			list = append(list, e.Number)
		}
		return list
	}
	for _, test := range []struct {
		request EventsRequest
		want    []uint64
	}{
		{EventsRequest{}, []uint64{1, 2, 3}},
		{EventsRequest{Service: "web"}, []uint64{1, 3}},
		{EventsRequest{Service: "192.0.2.1:80"}, []uint64{1, 3}},
		{EventsRequest{After: 1}, []uint64{2, 3}},
		{EventsRequest{Service: "web", After: 1}, []uint64{3}},
		{EventsRequest{After: 3}, nil},
	} {
		if got := numbers(test.request); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.request, got, test.want)
		}
	}
	err := client.Events(t.Context(), EventsRequest{Service: "nothing"}, func(Event) bool { return true })
	if err == nil || !strings.Contains(err.Error(), `there is no service "nothing"`) {
		t.Errorf("of no service: %v", err)
	}
}

// Followers get every event once and in order, and hang up when they like.
func TestEventsAreFollowed(t *testing.T) {
	d, client := journalOf(t, web)
	const all = 500
	d.reconciler.journal.add(Event{Service: "web"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next := uint64(1)
	err := client.Events(ctx, EventsRequest{Follow: true}, func(e Event) bool {
		if e.Number != next {
			t.Errorf("event %d comes where %d is next", e.Number, next)
		}
		if next == 1 {
			go func() {
				for range all - 1 {
					d.reconciler.journal.add(Event{Service: "web"})
				}
			}()
		}
		next++
		return next <= all
	})
	if err != nil {
		t.Error(err)
	}
	err = client.Events(ctx, EventsRequest{Follow: true}, func(Event) bool { cancel(); return true })
	if err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	err = client.Events(t.Context(), EventsRequest{Follow: true}, func(e Event) bool {
		if e.Number == all {
			close(d.reconciler.stopped)
		}
		return true
	})
	if err == nil || !strings.HasPrefix(err.Error(), "the daemon ended") {
		t.Errorf("when the daemon ends: %v", err)
	}
}

// A reader that follows and was too slow is told how many events it missed, and they are counted; one that begins late missed none.
func TestJournalTellsLost(t *testing.T) {
	j := newJournal(slog.New(slog.DiscardHandler))
	for range 2*kept + 5 {
		j.add(Event{Kind: EventPanic, Service: "web"})
	}
	if events, _ := j.after(0, false); events[0].Kind == EventLost || j.missed() != 0 {
		t.Errorf("one that begins is told %+v, %d are missed", events[0], j.missed())
	}
	events, _ := j.after(17, true)
	if e := events[0]; e.Kind != EventLost || e.Number != kept || e.Cause != fmt.Sprintf("%d events are lost, since they were read too slowly", kept-17) || j.missed() != kept-17 {
		t.Errorf("it is told %+v, %d are missed", e, j.missed())
	}
	if events[1].Number != kept+1 || len(events) != kept+6 {
		t.Errorf("then come %d events from %d on", len(events)-1, events[1].Number)
	}
}
