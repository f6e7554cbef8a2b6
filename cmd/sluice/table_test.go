package main

import (
	"testing"
	"time"
)

func TestNumber(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 0.4: "0", 999: "999", 9999: "9999", 9999.6: "10.0k", 12345: "12.3k", 99949: "99.9k", 99950: "100k",
		999499: "999k", 999500: "1.00M", 9_995_000: "10.0M", 1.5e9: "1.50G", 1.8446744073709551e19: "18.4E",
	} {
		if got := number(n).text; got != want {
			t.Errorf("number(%v) = %q, want %q", n, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59999 * time.Millisecond: "59s", time.Minute: "1m0s", 3*time.Hour - 1: "2h59m",
		24 * time.Hour: "1d0h", 400*24*time.Hour + 5*time.Hour: "400d5h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
}

// Colours do not disturb the columns, and nothing stands after the last text of a line.
func TestTable(t *testing.T) {
	var table = newTable("NAME", "COUNT", "STATE", "")
	table.add("a", 7, cell{text: "up", style: green}, "")
	table.add("grüße", uint64(12345), cell{text: "down", style: red}, "why")
	for name, colored := range map[string]bool{"plain": false, "colored": true} {
		t.Run(name, func(t *testing.T) {
			p := page{colored: colored}
			p.table(table)
			golden(t, p.String())
		})
	}
}
