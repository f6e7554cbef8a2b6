package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// occurrences are the beginnings of an event in its zone.
func occurrences(e Event, from, to string) string {
	zone, _ := time.LoadLocation(e.Zone)
	var all []string
	for _, o := range e.Occurrences(at(from), at(to)) {
		all = append(all, o.Start.In(zone).Format("Jan2 15:04"))
	}
	return strings.Join(all, ", ")
}

// Events recur at the same time of day, on days that exist.
func TestOccurrences(t *testing.T) {
	for _, c := range []struct {
		at       string
		every    Recurrence
		from, to string
		want     string
	}{
		{"2026-03-01T12:00:00Z", Once, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "Mar1 13:00"},
		{"2026-03-01T12:00:00Z", Once, "2026-03-01T13:59:00Z", "2027-01-01T00:00:00Z", "Mar1 13:00"},
		{"2026-03-01T12:00:00Z", Once, "2026-03-01T14:00:00Z", "2027-01-01T00:00:00Z", ""},
		{"2026-03-01T12:00:00Z", Once, "2026-01-01T00:00:00Z", "2026-03-01T12:00:00Z", ""},
		{"2026-03-27T08:00:00Z", Daily, "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", "Mar28 09:00, Mar29 09:00, Mar30 09:00"}, // summer time begins
		{"2020-10-18T07:00:00Z", Weekly, "2026-10-20T00:00:00Z", "2026-11-02T00:00:00Z", "Oct25 09:00, Nov1 09:00"},              // it ends
		{"2026-01-31T11:00:00Z", Monthly, "2026-01-01T00:00:00Z", "2026-08-01T00:00:00Z", "Jan31 12:00, Mar31 12:00, May31 12:00, Jul31 12:00"},
		{"2024-02-29T11:00:00Z", Yearly, "2025-01-01T00:00:00Z", "2033-01-01T00:00:00Z", "Feb29 12:00, Feb29 12:00"},
	} {
		e := Event{At: at(c.at), For: 2 * time.Hour, Expect: 1.4, Every: c.every, Zone: "Europe/Berlin"}
		if _, err := e.Check(); err != nil {
			t.Fatal(err)
		}
		if got := occurrences(e, c.from, c.to); got != c.want {
			t.Errorf("%s every %q: %s, want %s", c.at, c.every, got, c.want)
		}
	}
}

func TestEventCheck(t *testing.T) {
	for want, change := range map[string]func(*Event){
		"at: is missing":             func(e *Event) { e.At = time.Time{} },
		"for: 0s is no duration":     func(e *Event) { e.For = 0 },
		"expect: is missing":         func(e *Event) { e.Expect = 0 },
		"is longer than the day":     func(e *Event) { e.For, e.Every = 24*time.Hour, Daily },
		`every: "hour" is not known`: func(e *Event) { e.Every, e.For = "hour", 0+time.Second },
		`zone: "Mars" is no`:         func(e *Event) { e.Zone = "Mars" },
	} {
		e := Event{At: noon, For: time.Hour, Expect: 1.4}
		change(&e)
		if field, err := e.Check(); err == nil || !strings.Contains(field+": "+err.Error(), want) {
			t.Errorf("%s: %v, want %q", field, err, want)
		}
	}
}

func TestFactor(t *testing.T) {
	for in, want := range map[string]string{"+40%": "1.4 +40%", "-12.5%": "0.875 -12.5%", "+0%": "1 +0%", "+900%": "10 +900%"} {
		var f Factor
		if err := f.UnmarshalText([]byte(in)); err != nil || fmt.Sprint(float64(f), " ", f) != want {
			t.Errorf("%s: %v %s, %v", in, float64(f), f, err)
		}
	}
	for _, in := range []string{"", "40%", "+40", "-100%", "+Inf%", "much", "+NaN%"} {
		if err := new(Factor).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}
