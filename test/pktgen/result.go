package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// sent is what the kernel's threads have done.
type sent struct {
	Sent      uint64  `json:"sent"`   // packets
	Errors    uint64  `json:"errors"` // packets that the interface did not take
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"` // packets
	Megabits  float64 `json:"megabits_per_second"`
}

// result is a row of the table.
type result struct {
	load
	sent
	counted *counters // nil when nobody was asked
}

// MarshalJSON has all of it on one level.
func (r result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		load
		sent
		*counters
	}{r.load, r.sent, r.counted})
}

const header = "  SIZE     FLOWS  THREADS       RATE       SENT/S     MBIT/S  FORWARDED/S     LOST"

// String is the row for people, with the ends of other packets behind it when some were not forwarded.
func (r result) String() string {
	rate := "max"
	if r.Rate > 0 {
		rate = strconv.Itoa(r.Rate)
	}
	row := fmt.Sprintf("%6d  %8d  %7d  %9s  %11.0f  %9.1f", r.Size, r.Flows, r.Threads, rate, r.PerSecond, r.Megabits)
	if r.counted == nil {
		return row + fmt.Sprintf("  %11s  %7s", "-", "-")
	}
	row += fmt.Sprintf("  %11.0f  %5.1f %%", float64(r.counted.Forwarded)/r.Seconds, r.lost()*100)
	if r.lost() == 0 {
		return row // what else ended was other traffic
	}
	var ends []string
	for _, reason := range slices.Sorted(maps.Keys(r.counted.Ends)) {
		ends = append(ends, fmt.Sprintf("%s %d", reason, r.counted.Ends[reason]))
	}
	if len(ends) > 0 {
		row += "  " + strings.Join(ends, ", ")
	}
	return row
}

// lost is the share of what was sent that was not forwarded. It is 0 where other traffic is forwarded too, and more.
func (r result) lost() float64 {
	return max(0, 1-float64(r.counted.Forwarded)/float64(r.Sent))
}
