package forecast

import (
	"fmt"
	"time"
)

// Calendar tells which days are unlike others. The zero value has UTC, no holidays, and offices open from 9 to 17 h.
type Calendar struct {
	Location *time.Location
	Holidays map[Date]bool
}

// NewCalendar returns a calendar by a time zone and a file of holidays (see LoadHolidays), either of which may be "".
func NewCalendar(zone, holidays string) (c Calendar, err error) {
	if c.Location, err = time.LoadLocation(zone); err != nil {
		return Calendar{}, fmt.Errorf("%q is no time zone that this host knows, such as Europe/Berlin", zone)
	}
	if holidays != "" {
		c.Holidays, err = LoadHolidays(holidays)
	}
	return c, err
}

// Date is a day of a calendar.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// Zone is where clocks show the calendar's time.
func (c *Calendar) Zone() *time.Location {
	if c.Location == nil {
		return time.UTC
	}
	return c.Location
}

// local returns a time as clocks show it there.
func (c *Calendar) local(t time.Time) time.Time {
	return t.In(c.Zone())
}

// holiday says that the day of a local time is one.
func (c *Calendar) holiday(local time.Time) bool {
	if len(c.Holidays) == 0 {
		return false
	}
	year, month, day := local.Date()
	return c.Holidays[Date{year, month, day}]
}

// open says that offices usually are: from 9 to 17 h, Monday to Friday, but for holidays.
func (c *Calendar) open(local time.Time) bool {
	return local.Hour() >= 9 && local.Hour() < 17 && !weekend(local) && !c.holiday(local)
}

func weekend(local time.Time) bool {
	return local.Weekday() == time.Saturday || local.Weekday() == time.Sunday
}
