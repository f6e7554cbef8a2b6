package control

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// twoShops are services with planned events.
const twoShops = `
services:
- {name: shop, address: 192.0.2.1}
- {name: news, address: "192.0.2.2:80"}
events:
- {name: sale, service: shop, at: 2026-11-27T09:00:00+01:00, for: 2h, expect: +40%, every: week, zone: Europe/Berlin}
- {service: shop, at: 2026-12-24T18:00:00Z, for: 6h, expect: -30%}
- {name: bulletin, service: 192.0.2.2, at: 2026-11-01T20:00:00Z, for: 15m, expect: +200%, every: day}
`

// planned lists the planned events of a state, such as "shop/sale".
func planned(m Manifest) string {
	var names []string
	for _, e := range m.Events {
		names = append(names, e.Service+"/"+e.Name)
	}
	return strings.Join(names, " ")
}

// A list of events holds for the services that are listed, and what is exported changes nothing.
func TestApplyEvents(t *testing.T) {
	r := testRules()
	m := Manifest{}
	step := func(text string, prune bool, want string) {
		t.Helper()
		parsed := parse(t, text)
		if _, err := r.apply(&m, ApplyRequest{Services: parsed.Services, Events: parsed.Events, Prune: prune}); err != nil {
			t.Fatal(err)
		}
		sortEvents(m.Events)
		if got := planned(m); got != want {
			t.Errorf("there are %s, want %s", got, want)
		}
	}
	step(twoShops, false, "news/bulletin shop/sale shop/2026-12-24-1800")
	exported, err := m.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	before := m.clone()
	step(string(exported), true, "news/bulletin shop/sale shop/2026-12-24-1800")
	if diff := cmp.Diff(before.Events, m.Events); diff != "" {
		t.Errorf("what was exported changes (-was +is):\n%s", diff)
	}
	step("services: [{name: shop, address: 192.0.2.1}]", false, "news/bulletin shop/sale shop/2026-12-24-1800")
	step("services: [{name: shop2, address: 192.0.2.1}]", false, "news/bulletin shop2/sale shop2/2026-12-24-1800")
	step("events: [{service: shop2, name: sale, at: 2026-11-27T08:00:00Z, for: 3h, expect: +50%}]", false, "news/bulletin shop2/sale")
	if m.Events[1].Expect != 1.5 {
		t.Errorf("%+v", m.Events[1])
	}
	step("services: [{name: shop2, address: 192.0.2.1}]\nevents: []", false, "news/bulletin")
	step(twoShops, true, "news/bulletin shop/sale shop/2026-12-24-1800")
	step("services: [{name: news, address: \"192.0.2.2:80\"}]", true, "news/bulletin")
	step("services: [{name: news, address: \"192.0.2.2:80\"}]\nevents: []", true, "")
}

// A manifest's mistakes are named with their place.
func TestPlannedEventErrors(t *testing.T) {
	for event, want := range map[string]string{
		"{at: 2026-11-27T09:00:00Z, for: 2h, expect: +40%}":                                "m:1:11: events[0]: service: is missing",
		"{service: a, for: 2h, expect: +40%}":                                              "events[0]: at: is missing",
		"{service: a, at: tomorrow, for: 2h, expect: +40%}":                                `m:1:23: events[0]: at: parsing time "tomorrow"`,
		"{service: a, at: 2026-11-27T09:00:00Z, expect: +40%}":                             "events[0]: for: 0s is no duration above 0",
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h}":                                  "events[0]: expect: is missing",
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: 40}":                      `events[0]: expect: "40" is no change of traffic such as +40% or -10%`,
		"{service: a, at: 2026-11-27T09:00:00Z, for: 30h, expect: +4%, every: day}":        "events[0]: for: 30h0m0s is longer than the day",
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%, every: moon}":        `events[0]: every: "moon" is not known`,
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%, zone: Moon}":         `events[0]: zone: "Moon" is no time zone`,
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%, name: A}":            `events[0]: name: "A" is no name`,
		"{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%, color: red}":         "events[0]: color: unknown key",
		strings.Repeat("{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%},", 2): "events[1]: is the same as events[0]",
	} {
		_, err := ParseManifest("m", []byte("events: ["+event+"]"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", event, err, want)
		}
	}
	r := testRules()
	m := Manifest{}
	request := ApplyRequest{Events: parse(t, "events: [{service: a, at: 2026-11-27T09:00:00Z, for: 2h, expect: +4%}]").Events}
	if _, err := r.apply(&m, request); err == nil || !strings.Contains(err.Error(), `events[0]: there is no service "a"`) {
		t.Errorf("%v", err)
	}
}

// Events follow their service: its new name, and its end; and they are there after a restart.
func TestEventsFollowServices(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	r := testRules()
	step := func(want string, edit func(*Manifest) error) {
		t.Helper()
		store, err := OpenStore(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Update(edit, nil); err != nil {
			t.Fatal(err)
		}
		held := store.Manifest()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if store, err = OpenStore(path); err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if diff := cmp.Diff(held.Events, store.Manifest().Events, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}
		if got := planned(store.Manifest()); got != want {
			t.Errorf("there are %s, want %s", got, want)
		}
	}
	parsed := parse(t, twoShops)
	step("news/bulletin shop/sale shop/2026-12-24-1800", func(m *Manifest) error {
		_, err := r.apply(m, ApplyRequest{Services: parsed.Services, Events: parsed.Events})
		return err
	})
	name := "www"
	step("news/bulletin www/sale www/2026-12-24-1800", func(m *Manifest) error {
		_, err := r.update(m, "shop", ServicePatch{Name: &name})
		return err
	})
	step("www/sale www/2026-12-24-1800", func(m *Manifest) error { return r.remove(m, "news") })
	step("www/2026-12-24-1800", func(m *Manifest) error { return r.cancel(m, "192.0.2.1", "sale", parsed.Events[0].At) })
	step("", func(m *Manifest) error { return r.remove(m, "www") })
}
