package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/history"
)

// PlannedEvent is something that is known to change a service's traffic, such as a campaign, as people declare it.
// Service, name and time together tell planned events apart.
type PlannedEvent struct {
	Name    string             `json:"name,omitempty" maxLength:"63" doc:"The same whenever something like it happens, since what it does is learnt by its name. Default: made of the time"`
	Service string             `json:"service" doc:"Name or address"`
	At      time.Time          `json:"at" doc:"When it begins, the first time"`
	For     Duration           `json:"for" doc:"How long it takes"`
	Expect  history.Factor     `json:"expect" doc:"How it changes the traffic, such as +40%"`
	Every   history.Recurrence `json:"every,omitempty" enum:"day,week,month,year" doc:"After which time it happens again. Default: never"`
	Zone    string             `json:"zone,omitempty" doc:"Of the calendar by which it recurs, such as Europe/Berlin. Default: UTC"`
}

// event is what forecasts read.
func (e *PlannedEvent) event() history.Event {
	return history.Event{Name: e.Name, Service: e.Service, At: e.At, For: time.Duration(e.For), Expect: e.Expect, Every: e.Every, Zone: e.Zone}
}

// defaultName is the name of an event that was given none.
func (e *PlannedEvent) defaultName() string { return e.At.Format("2006-01-02-1504") }

// summary is for example "2026-11-27T08:00:00Z for 2h0m0s +40% every week".
func (e *PlannedEvent) summary() string {
	text := fmt.Sprintf("%s for %s %s", e.At.Format(time.RFC3339), e.For, e.Expect)
	if e.Every != history.Once {
		text += " every " + string(e.Every)
	}
	if e.Zone != "" {
		text += " in " + e.Zone
	}
	return text
}

// complete fills in what is open, and checks.
func (e *PlannedEvent) complete() *FieldError {
	e.At = e.At.UTC().Truncate(time.Second)
	e.Name = cmp.Or(e.Name, e.defaultName())
	switch {
	case e.Service == "":
		return invalid("service", "is missing")
	case !validName(e.Name):
		return invalid("name", "%q is no name: lower-case letters, digits, '.' and '-', at most %d", e.Name, maxNameLength)
	}
	planned := e.event()
	if field, err := planned.Check(); err != nil {
		return invalid(field, "%v", err)
	}
	return nil
}

// compare orders planned events; 0 is the same one.
func (e *PlannedEvent) compare(o *PlannedEvent) int {
	return cmp.Or(cmp.Compare(e.Service, o.Service), e.At.Compare(o.At), cmp.Compare(e.Name, o.Name))
}

func (e *PlannedEvent) is(o *PlannedEvent) bool { return e.compare(o) == 0 }

func sortEvents(events []PlannedEvent) {
	slices.SortFunc(events, func(a, b PlannedEvent) int { return a.compare(&b) })
}

// completeEvents completes all, and checks that none is there twice.
func (m Manifest) completeEvents() *FieldError {
	for i := range m.Events {
		e := &m.Events[i]
		path := fmt.Sprintf("events[%d]", i)
		if err := e.complete(); err != nil {
			return err.under(path, "")
		}
		if other := slices.IndexFunc(m.Events[:i], func(o PlannedEvent) bool { return o.is(e) }); other >= 0 {
			return invalid(path, "is the same as events[%d]: service, name and time", other)
		}
	}
	return nil
}

// plan adds an event and returns it completed.
func (r rules) plan(m *Manifest, e PlannedEvent) (PlannedEvent, error) {
	if err := e.complete(); err != nil {
		return e, err
	}
	i, err := m.find(e.Service)
	if err != nil {
		return e, err
	}
	e.Service = m.Services[i].Name
	if slices.ContainsFunc(m.Events, func(o PlannedEvent) bool { return o.is(&e) }) {
		return e, tag(ErrConflict, "service %q has an event %q at %s already", e.Service, e.Name, e.At.Format(time.RFC3339))
	}
	m.Events = append(m.Events, e)
	return e, nil
}

// cancel removes the events of a service with a name, and of those only the one at some time if that is not zero.
func (r rules) cancel(m *Manifest, service, name string, at time.Time) error {
	i, err := m.find(service)
	if err != nil {
		return err
	}
	count := len(m.Events)
	m.Events = slices.DeleteFunc(m.Events, func(e PlannedEvent) bool {
		return e.Service == m.Services[i].Name && e.Name == name && (at.IsZero() || e.At.Equal(at))
	})
	if len(m.Events) == count {
		when := ""
		if !at.IsZero() {
			when = " at " + at.Format(time.RFC3339)
		}
		return tag(ErrNotFound, "service %q has no event %q%s", m.Services[i].Name, name, when)
	}
	return nil
}

// followEvents gives the events of services the names that these have after a change; of one that is gone they go too.
func (m *Manifest) followEvents(name func(before string) string) {
	for i := range m.Events {
		m.Events[i].Service = name(m.Events[i].Service)
	}
	m.Events = slices.DeleteFunc(m.Events, func(e PlannedEvent) bool { return e.Service == "" })
}

// applyEvents makes the events of services that are listed, with an event or themselves, exactly those that are listed.
// Without a list of events they stay as long as their service does.
func (m *Manifest) applyEvents(listed Manifest, prune bool) error {
	if listed.Events == nil {
		return nil
	}
	named := make(map[string]bool)
	for i := range listed.Services {
		named[listed.Services[i].Name] = true
	}
	for i := range listed.Events {
		e := &listed.Events[i]
		of, err := m.find(e.Service)
		if err != nil {
			return tag(ErrInvalid, "events[%d]: %v", i, err)
		}
		e.Service = m.Services[of].Name
		named[e.Service] = true
	}
	if err := listed.completeEvents(); err != nil { // once more, since names and addresses were the same services
		return err
	}
	m.Events = slices.DeleteFunc(m.Events, func(e PlannedEvent) bool { return prune || named[e.Service] })
	m.Events = append(m.Events, listed.Events...)
	return nil
}

// eventDifference says what turns some events into others.
func eventDifference(before, after []PlannedEvent) (changes []Change) {
	type identity struct {
		service, name string
		at            int64
	}
	events := match(before, after, func(e *PlannedEvent) any { return identity{e.Service, e.Name, e.At.Unix()} })
	slices.SortStableFunc(events, func(a, b pair[PlannedEvent]) int {
		return cmp.Or(a.after, a.before).compare(cmp.Or(b.after, b.before))
	})
	for _, p := range events {
		of := cmp.Or(p.after, p.before)
		name := of.Service + "/" + of.Name
		switch {
		case p.before == nil:
			changes = append(changes, Change{ActionCreate, KindEvent, name, p.after.summary()})
		case p.after == nil:
			changes = append(changes, Change{ActionRemove, KindEvent, name, p.before.summary()})
		case p.before.summary() != p.after.summary():
			changes = append(changes, Change{ActionUpdate, KindEvent, name, p.before.summary() + " -> " + p.after.summary()})
		}
	}
	return changes
}

// eventsKey in the bucket meta holds the planned events, as JSON.
var eventsKey = []byte("events")

func (m *Manifest) loadEvents(meta *bolt.Bucket) error {
	data := meta.Get(eventsKey)
	if data == nil {
		return nil
	}
	if err := json.Unmarshal(data, &m.Events); err != nil {
		return fmt.Errorf("planned events: %w", err)
	}
	return nil
}

// writeEvents writes the events of a state if they differ from those of the one before; both are sorted.
func writeEvents(meta *bolt.Bucket, from, to Manifest) error {
	if len(eventDifference(from.Events, to.Events)) == 0 {
		return nil
	}
	data, err := json.Marshal(to.Events)
	if err != nil {
		return err
	}
	return meta.Put(eventsKey, data)
}

// plannedEventRef names the events of a service with a name.
type plannedEventRef struct {
	Service string    `path:"service"`
	Event   string    `path:"event"`
	At      time.Time `query:"at" doc:"Only the one that begins then, in RFC 3339"`
}

const (
	plannedEvents = "/v1/planned-events"
	plannedEvent  = service + "/planned-events/{event}"
)

func (d *Daemon) registerPlannedEvents(api huma.API) {
	huma.Register(api, operation("list-planned-events", http.MethodGet, plannedEvents, "List the planned events"),
		func(context.Context, *struct{}) (*answer[[]PlannedEvent], error) {
			return reply(append([]PlannedEvent{}, d.store.Manifest().Events...), nil)
		})
	huma.Register(api, creation("plan-event", plannedEvents, "Declare an event that will change a service's traffic", 404, 409, 422),
		func(ctx context.Context, in *struct{ Body PlannedEvent }) (*answer[PlannedEvent], error) {
			return reply(change(ctx, d, func(m *Manifest) (PlannedEvent, error) { return d.rules.plan(m, in.Body) }))
		})
	huma.Register(api, operation("remove-planned-event", http.MethodDelete, plannedEvent, "Remove the planned events of a service with a name", 404),
		func(ctx context.Context, in *plannedEventRef) (*struct{}, error) {
			return nil, remove(ctx, d, func(m *Manifest) error { return d.rules.cancel(m, in.Service, in.Event, in.At) })
		})
}

// PlannedEvents returns the planned events of all services, sorted by service and time.
func (c *Client) PlannedEvents(ctx context.Context) ([]PlannedEvent, error) {
	return call[[]PlannedEvent](ctx, c, http.MethodGet, plannedEvents, nil)
}

// PlanEvent declares an event and returns it completed.
func (c *Client) PlanEvent(ctx context.Context, e PlannedEvent) (PlannedEvent, error) {
	return call[PlannedEvent](ctx, c, http.MethodPost, plannedEvents, e)
}

// RemovePlannedEvent removes the events of a service with a name, only the one that begins at some time if that is not zero.
func (c *Client) RemovePlannedEvent(ctx context.Context, service, name string, at time.Time) error {
	path := servicePath(service) + "/planned-events/" + url.PathEscape(name)
	if !at.IsZero() {
		path += "?" + url.Values{"at": {at.Format(time.RFC3339)}}.Encode()
	}
	_, err := call[empty](ctx, c, http.MethodDelete, path, nil)
	return err
}
