package forecast

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func holidaysOf(t *testing.T, text string) (map[Date]bool, error) {
	file := filepath.Join(t.TempDir(), "holidays")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadHolidays(file)
}

func checkHolidays(t *testing.T, holidays map[Date]bool, want map[Date]bool) {
	t.Helper()
	for day, is := range want {
		if holidays[day] != is {
			t.Errorf("%v is a holiday: %v", day, holidays[day])
		}
	}
}

func TestHolidayLines(t *testing.T) {
	holidays, err := holidaysOf(t, "# ours\n2026-11-26 Thanksgiving\n\n12-25  Christmas Day # every year\n02-29\n")
	if err != nil {
		t.Fatal(err)
	}
	checkHolidays(t, holidays, map[Date]bool{
		{2026, time.November, 26}: true, {2027, time.November, 26}: false,
		{1995, time.December, 25}: true, {2040, time.December, 25}: true,
		{2028, time.February, 29}: true, {2027, time.March, 1}: false,
	})
	for text, want := range map[string]string{
		"2026-11-26\n2026-13-01 x": `line 2: "2026-13-01"`,
		"Christmas 12-25":          `line 1: "Christmas"`,
		"02-30":                    `line 1: "02-30"`,
	} {
		if _, err := holidaysOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
	if _, err := LoadHolidays(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a file that is missing: %v", err)
	}
}

// Events of whole days count, with what recurs by a rule and what takes several days; events at a time of day do not.
func TestHolidayICS(t *testing.T) {
	event := func(lines ...string) string {
		return "BEGIN:VEVENT\r\nUID:" + lines[0] + "\r\n" + strings.Join(lines[1:], "\r\n") + "\r\nEND:VEVENT\r\n"
	}
	calendar := func(events ...string) string {
		return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\n" + strings.Join(events, "") + "END:VCALENDAR\r\n"
	}
	holidays, err := holidaysOf(t, calendar(
		event("1", "DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261227", "SUMMARY:Christmas"),
		event("2", "DTSTART;VALUE=DATE:20201126", "RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "SUMMARY:Thanksgiving"),
		event("3", "DTSTART:20260504T090000Z", "DTEND:20260504T100000Z", "SUMMARY:Meeting"),
	))
	if err != nil {
		t.Fatal(err)
	}
	checkHolidays(t, holidays, map[Date]bool{
		{2026, time.December, 23}: false, {2026, time.December, 24}: true, {2026, time.December, 26}: true, {2026, time.December, 27}: false,
		{2026, time.November, 26}: true, {2027, time.November, 25}: true, {2019, time.November, 28}: false,
		{2026, time.May, 4}: false,
	})
	for text, want := range map[string]string{
		calendar(): "no event of a whole day",
		calendar(event("9", "DTSTART;VALUE=DATE:20201126", "RRULE:FREQ=SOMETIMES")): `event "9"`,
		"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n":                                       "calendar",
	} {
		if _, err := holidaysOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
}
