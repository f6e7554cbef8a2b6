package forecast

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/teambition/rrule-go"
)

// The years in which days that recur are holidays.
const firstYear, lastYear = 1990, 2100

// longestHoliday bounds what a mistaken end costs.
const longestHoliday = 366

// LoadHolidays reads holidays from a file: iCalendar (RFC 5545), of which it takes the events of whole days; or lines of a day
// and its name, such as "2026-12-25 Christmas Day", in which a day without a year, such as 12-25, recurs each year, and
// nothing after a # counts. An error names the file and, of lines, the number.
func LoadHolidays(file string) (map[Date]bool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the calendar: %w", err)
	}
	read := readLines
	if bytes.HasPrefix(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("BEGIN:VCALENDAR")) {
		read = readICS
	}
	holidays, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("the calendar %s: %w", file, err)
	}
	return holidays, nil
}

func readLines(data []byte) (map[Date]bool, error) {
	holidays := make(map[Date]bool)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if day, err := time.Parse(time.DateOnly, fields[0]); err == nil {
			holidays[dateOf(day)] = true
			continue
		}
		day, err := time.Parse(time.DateOnly, "2000-"+fields[0]) // a leap year
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is no day such as 2026-12-25, or 12-25 for each year", number, fields[0])
		}
		for year := firstYear; year <= lastYear; year++ {
			if in := day.AddDate(year-2000, 0, 0); in.Day() == day.Day() {
				holidays[dateOf(in)] = true
			}
		}
	}
	return holidays, lines.Err()
}

func readICS(data []byte) (map[Date]bool, error) {
	calendar, err := ics.ParseCalendar(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	holidays := make(map[Date]bool)
	for _, event := range calendar.Events() {
		if err := addEvent(holidays, event); err != nil {
			return nil, fmt.Errorf("event %q: %w", event.Id(), err)
		}
	}
	if len(holidays) == 0 {
		return nil, errors.New("it has no event of a whole day")
	}
	return holidays, nil
}

// addEvent adds the days of an event of whole days.
func addEvent(holidays map[Date]bool, event *ics.VEvent) error {
	start := event.GetProperty(ics.ComponentPropertyDtStart)
	if start == nil || len(start.Value) != len("20261225") {
		return nil // it begins at a time of day
	}
	first, err := event.GetAllDayStartAt()
	if err != nil {
		return err
	}
	days := 1
	if end, err := event.GetAllDayEndAt(); err == nil { // the first day after it
		days = max(min(int(end.Sub(first).Hours()/24+0.5), longestHoliday), 1)
	}
	first = time.Date(first.Year(), first.Month(), first.Day(), 0, 0, 0, 0, time.UTC)
	starts := []time.Time{first}
	if rule := event.GetProperty(ics.ComponentPropertyRrule); rule != nil {
		recurrence, err := rrule.StrToRRule(rule.Value)
		if err != nil {
			return err
		}
		recurrence.DTStart(first)
		starts = recurrence.Between(time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(lastYear+1, 1, 1, 0, 0, 0, 0, time.UTC), true)
	}
	for _, start := range starts {
		for day := range days {
			holidays[dateOf(start.AddDate(0, 0, day))] = true
		}
	}
	return nil
}

func dateOf(day time.Time) Date {
	year, month, number := day.Date()
	return Date{year, month, number}
}
