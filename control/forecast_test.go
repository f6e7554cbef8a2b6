package control

import (
	"log/slog"
	"testing"

	"github.com/sluicelb/sluice/brain/forecast/live"
	"github.com/sluicelb/sluice/brain/history"
)

// A surge becomes an event in the minute that has it.
func TestAnomalyEvent(t *testing.T) {
	s := newSampling(t)
	d, _ := journalOf(t, web)
	s.service = d.store.Manifest().Services[0]
	forecasts, err := live.New(s.db, s.history, live.Options{Anomaly: d.anomaly, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.told = func(m history.Minute) { forecasts.Minute(m.At, m.Rows) }
	s.count(0)
	s.begin()
	total := uint64(0)
	for range 30 {
		total += 1000
		s.minute(total)
	}
	if events, _ := d.reconciler.journal.after(0, false); len(events) > 0 {
		t.Fatalf("usual traffic: %v", events)
	}
	s.minute(total + 5000)
	events, _ := d.reconciler.journal.after(0, false)
	const want = "web anomaly 1000 -> 5000: surge of new flows in the minute of 12:30 UTC, by"
	if len(events) != 1 || events[0].Kind != EventAnomaly || len(events[0].String()) < len(want) || events[0].String()[:len(want)] != want {
		t.Errorf("a surge: %v", events)
	}
}
