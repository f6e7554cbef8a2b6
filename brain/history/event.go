package history

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is something that is known to change a service's traffic, such as a campaign.
type Event struct {
	Name    string
	Service string
	At      time.Time     // when it begins, the first time
	For     time.Duration // > 0
	Expect  Factor
	Every   Recurrence
	Zone    string // of the calendar by which it recurs, such as "Europe/Berlin"; "" is UTC
}

// Occurrence is one time that an event takes place.
type Occurrence struct{ Start, End time.Time }

// Check returns what is wrong with an event, but for its names, and with which field of it.
func (e *Event) Check() (field string, err error) {
	switch {
	case e.At.IsZero():
		return "at", errors.New("is missing; when does it begin?")
	case e.For <= 0:
		return "for", fmt.Errorf("%s is no duration above 0", e.For)
	case !(e.Expect > 0) || math.IsInf(float64(e.Expect), 0):
		return "expect", errors.New("is missing: how does it change the traffic? For example +40%")
	case !slices.Contains(recurrences, e.Every):
		return "every", fmt.Errorf("%q is not known (known: day, week, month, year)", string(e.Every))
	case e.Every != Once && e.For > e.Every.shortest():
		return "for", fmt.Errorf("%s is longer than the %s after which it recurs", e.For, e.Every)
	}
	_, err = e.location()
	return "zone", err
}

func (e *Event) location() (*time.Location, error) {
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone that this host knows, such as Europe/Berlin", e.Zone)
	}
	return zone, nil
}

// Occurrences returns when the event takes place within two times, also in part, in order. It begins at the same time of day in
// its zone each time, whatever the offset is then; months and years without its day are left out (as in RFC 5545, section
// 3.3.10). The event must have passed Check.
func (e *Event) Occurrences(from, to time.Time) (all []Occurrence) {
	zone, err := e.location()
	if err != nil {
		return nil
	}
	first := e.At.In(zone)
	for n := e.Every.skip(from.Add(-e.For).Sub(first)); ; n++ {
		start, exists := e.Every.after(first, n)
		if !start.Before(to) {
			return all
		}
		if end := start.Add(e.For); exists && end.After(from) {
			all = append(all, Occurrence{start, end})
		}
		if e.Every == Once {
			return all
		}
	}
}

// Recurrence is after which time an event takes place again.
type Recurrence string

// The recurrences.
const (
	Once    Recurrence = ""
	Daily   Recurrence = "day"
	Weekly  Recurrence = "week"
	Monthly Recurrence = "month"
	Yearly  Recurrence = "year"
)

var recurrences = []Recurrence{Once, Daily, Weekly, Monthly, Yearly}

const day = 24 * time.Hour

// shortest is how long it is at least; a day may have an hour less.
func (r Recurrence) shortest() time.Duration {
	return map[Recurrence]time.Duration{Daily: day - time.Hour, Weekly: 7*day - time.Hour, Monthly: 28*day - time.Hour, Yearly: 365*day - time.Hour}[r]
}

// skip is how many recurrences certainly lie within some time, 0 at least.
func (r Recurrence) skip(within time.Duration) int {
	longest := map[Recurrence]time.Duration{Daily: day, Weekly: 7 * day, Monthly: 31 * day, Yearly: 366 * day}[r]
	if longest == 0 || within < 0 {
		return 0
	}
	return max(int(within/longest)-1, 0)
}

// after returns the n-th time after the first one, which is 0, and whether there is such a day.
func (r Recurrence) after(first time.Time, n int) (time.Time, bool) {
	years, months, days := 0, 0, 0
	switch r {
	case Daily:
		days = n
	case Weekly:
		days = 7 * n
	case Monthly:
		months = n
	case Yearly:
		years = n
	}
	at := first.AddDate(years, months, days)
	return at, days > 0 || at.Day() == first.Day()
}

// Factor is what traffic is multiplied by. Its text is the change in percent, such as "+40%".
type Factor float64

// String returns for example "+40%" or "-12.5%".
func (f Factor) String() string {
	percent := strconv.FormatFloat(math.Round(1e4*(float64(f)-1))/100, 'f', -1, 64)
	if f >= 1 {
		percent = "+" + percent
	}
	return percent + "%"
}

// MarshalText returns String.
func (f Factor) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText accepts a change in percent with its sign, from above -100% on.
func (f *Factor) UnmarshalText(text []byte) error {
	number, isPercent := strings.CutSuffix(string(text), "%")
	signed := strings.HasPrefix(number, "+") || strings.HasPrefix(number, "-")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercent || !signed || !(percent > -100) || math.IsInf(percent, 0) {
		return fmt.Errorf("%q is no change of traffic such as +40%% or -10%%, above -100%%", text)
	}
	*f = Factor(1 + percent/100)
	return nil
}
