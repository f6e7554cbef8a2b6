package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/dataplane"
)

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	EventState   EventKind = "state"   // a backend has another state
	EventWeight  EventKind = "weight"  // a backend that is up gets another share of its weight
	EventPanic   EventKind = "panic"   // all backends of a service are used since too few are up, or not any more
	EventAnomaly EventKind = "anomaly" // a minute's new flows were not as expected
	EventScale   EventKind = "scale"   // another number of backends is ordered or, without an executor, recommended
	EventPlan    EventKind = "plan"    // a plan ended
	EventLost    EventKind = "lost"    // a reader was so slow that it missed events
)

// Event is a change that the daemon made by itself or noticed, and why.
type Event struct {
	Number  uint64    `json:"number" doc:"Counts from 1 since the daemon started"`
	Time    time.Time `json:"time"`
	Kind    EventKind `json:"kind" enum:"state,weight,panic,anomaly,scale,plan,lost"`
	Service string    `json:"service"`
	Backend string    `json:"backend,omitempty"`
	From    string    `json:"from" doc:"State, percent of the weight, how many flows were expected, or backends"`
	To      string    `json:"to"`
	Cause   string    `json:"cause,omitempty"`

	key dataplane.ServiceKey
}

// String returns for example "web/10.1.0.11 up -> down: 3 of 3 probes failed within 41ms: no answer within 20ms".
func (e Event) String() string {
	name := e.Service
	if e.Backend != "" {
		name += "/" + e.Backend
	}
	what := ""
	if e.Kind != EventState {
		what = string(e.Kind) + " "
	}
	if e.Kind == EventLost {
		return e.Cause
	}
	text := fmt.Sprintf("%s %s%s -> %s", name, what, e.From, e.To)
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	return text
}

// kept is how many events are remembered.
const kept = 10_000

// journal remembers the latest events and tells those who wait. It is safe for concurrent use.
type journal struct {
	log *slog.Logger

	mu     sync.Mutex
	events []Event                          // the last of them, in order
	counts map[string]map[eventCount]uint64 // by service
	last   uint64
	lost   uint64        // events that readers missed
	more   chan struct{} // closed and replaced when there is an event more
}

// eventCount is what metrics tell events apart by.
type eventCount struct{ service, backend, kind, to string }

func newJournal(log *slog.Logger) *journal {
	return &journal{log: log, counts: make(map[string]map[eventCount]uint64), more: make(chan struct{})}
}

// forget ends the counts of what is gone from services that changed, so that they do not become ever more. Names are
// unique, so a service that did not change cannot have the name of one that did.
func (j *journal) forget(changed []revision) {
	named := make(map[string]*Service, len(changed))
	for _, c := range changed {
		if c.after != nil {
			named[c.after.Name] = c.after
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range changed {
		if c.before != nil {
			j.keepOnly(c.before.Name, named[c.before.Name])
		}
	}
}

// keepOnly ends the counts under a service's name but those of the service that has it now, which may be nil. j.mu must be
// held.
func (j *journal) keepOnly(name string, s *Service) {
	counts := j.counts[name]
	if s == nil || len(counts) == 0 {
		delete(j.counts, name)
		return
	}
	stays := map[string]bool{"": true}
	for i := range s.Backends {
		stays[s.Backends[i].Name] = true
	}
	for count := range counts {
		if !stays[count.backend] {
			delete(counts, count)
		}
	}
}

func (j *journal) add(e Event) {
	j.mu.Lock()
	j.last++
	e.Number, e.Time = j.last, time.Now()
	if len(j.events) >= 2*kept {
		j.events = append(j.events[:0], j.events[kept:]...)
	}
	j.events = append(j.events, e)
	count := eventCount{e.Service, e.Backend, string(e.Kind), ""}
	if e.Kind == EventState {
		count.to = e.To
	}
	if j.counts[e.Service] == nil {
		j.counts[e.Service] = make(map[eventCount]uint64)
	}
	j.counts[e.Service][count]++
	close(j.more)
	j.more = make(chan struct{})
	j.mu.Unlock()
	level := slog.LevelInfo
	if e.Kind == EventWeight {
		level = slog.LevelDebug
	}
	j.log.Log(context.Background(), level, e.message(), "kind", e.Kind, "service", e.Service, "backend", e.Backend, "from", e.From, "to", e.To, "cause", e.Cause)
}

// message is what the log says of the event.
func (e *Event) message() string {
	switch e.Kind {
	case EventAnomaly:
		return "traffic is not as expected"
	case EventScale:
		return "backends are ordered"
	case EventPlan:
		return "a plan ended"
	}
	return "backend changed"
}

// after returns the events after a number, and what is closed when there are more. For a reader that follows, and did not before those that
// are gone were, the first one says how many it missed.
func (j *journal) after(number uint64, follows bool) ([]Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := j.last - uint64(len(j.events)) // the number before the first one kept
	skip := 0
	if follows && number < first {
		j.lost += first - number
		lost := Event{Number: first, Time: time.Now(), Kind: EventLost, Cause: fmt.Sprintf("%d events are lost, since they were read too slowly", first-number)}
		return append([]Event{lost}, j.events...), j.more
	}
	if number > first {
		skip = int(min(number, j.last) - first)
	}
	return append([]Event(nil), j.events[skip:]...), j.more
}

// note adds what changed about a service.
func (j *journal) note(s *Service, c changes) {
	for _, change := range c.backends {
		was, is := change.Before, change.After
		if was.Since.IsZero() {
			continue // it is new, and as it was added
		}
		e := Event{key: s.Key(), Kind: EventState, Service: s.Name, Backend: s.nameOf(change.Key), From: string(was.State), To: string(is.State), Cause: is.Cause}
		if was.State == is.State {
			e.Kind, e.From, e.To, e.Cause = EventWeight, percent(was.Factor), percent(is.Factor), is.Reasons()
		}
		j.add(e)
	}
	for _, p := range c.panics {
		e := Event{key: s.Key(), Kind: EventPanic, Service: s.Name, From: onOff(!p.on), To: onOff(p.on)}
		if p.on {
			e.Cause = "too few backends are up, so all are used"
		}
		if p.set != "" {
			e.Cause = strings.TrimSuffix("set "+p.set+": "+e.Cause, ": ")
		}
		j.add(e)
	}
}

func percent(share float64) string { return strconv.Itoa(int(math.Round(100*share))) + "%" }

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// counted returns how many events there were of each kind.
func (j *journal) counted() map[eventCount]uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make(map[eventCount]uint64)
	for _, counts := range j.counts {
		maps.Copy(all, counts)
	}
	return all
}

// missed returns how many events readers missed.
func (j *journal) missed() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lost
}

// EventsRequest says which events to send.
type EventsRequest struct {
	Service string `query:"service" doc:"Only those of this service, by name or address; empty: of all"`
	After   uint64 `query:"after" doc:"Only those with a greater number"`
	Follow  bool   `query:"follow" doc:"Go on with those that come, until the client hangs up"`
}

// wants says that an event is of the service, whose key tells it also where it had or gets another name.
func (r *EventsRequest) wants(e Event, key dataplane.ServiceKey) bool {
	return r.Service == "" || r.Service == e.Service || key == e.key
}

func (d *Daemon) registerEvents(api huma.API) {
	huma.Register(api, operation("events", http.MethodGet, "/v1/events", "Changes that the daemon made by itself, as JSON objects one after the other", 404, 422),
		func(_ context.Context, in *EventsRequest) (*huma.StreamResponse, error) {
			var key dataplane.ServiceKey
			if in.Service != "" {
				m := d.store.Manifest()
				i, err := m.find(in.Service)
				if err != nil {
					return nil, statusError(err)
				}
				in.Service, key = m.Services[i].Name, m.Services[i].Key()
			}
			return &huma.StreamResponse{Body: func(out huma.Context) { d.streamEvents(out, *in, key) }}, nil
		})
}

func (d *Daemon) streamEvents(out huma.Context, r EventsRequest, key dataplane.ServiceKey) {
	out.SetHeader("Content-Type", "application/x-ndjson")
	writer := out.BodyWriter()
	encoder := json.NewEncoder(writer)
	for follows := false; ; follows = true {
		events, more := d.reconciler.journal.after(r.After, follows)
		for _, e := range events {
			r.After = e.Number
			if (r.wants(e, key) || e.Kind == EventLost) && encoder.Encode(e) != nil {
				return
			}
		}
		if flusher, ok := writer.(http.Flusher); ok {
			flusher.Flush()
		}
		if !r.Follow {
			return
		}
		select {
		case <-more:
		case <-out.Context().Done():
			return
		case <-d.reconciler.stopped:
			return
		}
	}
}

// Events calls show with the events after a number, in order; with Follow until ctx ends, show returns false or the daemon
// ends.
func (c *Client) Events(ctx context.Context, r EventsRequest, show func(Event) bool) error {
	query := url.Values{"service": {r.Service}, "after": {strconv.FormatUint(r.After, 10)}, "follow": {strconv.FormatBool(r.Follow)}}
	body, err := c.stream(ctx, "/v1/events", query)
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var e Event
		err := decoder.Decode(&e)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF) && !r.Follow:
			return nil
		case err != nil:
			return fmt.Errorf("the daemon ended: %w", err)
		case !show(e):
			return nil
		}
	}
}
