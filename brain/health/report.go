package health

import (
	"context"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
)

// loadState is what a target said of itself lately.
type loadState struct {
	report  load.Report
	at      time.Time // of the report
	problem string    // why the latest reading failed
}

// reportAge is how many intervals a report counts when no further one comes.
const reportAge = 5

// read reads the load reports of one target until ctx ends.
func (m *Monitor[K]) read(ctx context.Context, key K, w *watch) {
	interval := w.target.Load.Interval
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		m.readOnce(ctx, key, w, interval)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// readOnce reads one report. Without an answer the last one counts for a while; a target is not down because nobody says
// how it is.
func (m *Monitor[K]) readOnce(ctx context.Context, key K, w *watch, interval time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	report, err := w.reporter.Read(ctx)
	m.mu.Lock()
	if m.watches[key] != w {
		m.mu.Unlock()
		return
	}
	m.touched[key] = true
	before, now := w.load.report, time.Now()
	switch {
	case err == nil:
		w.load = loadState{report: report.Over(before), at: now}
	case now.Sub(w.load.at) > reportAge*interval:
		w.load = loadState{at: w.load.at, problem: err.Error()}
	default:
		w.load.problem = err.Error()
	}
	changed := before.Health != w.load.report.Health || before.Admin != w.load.report.Admin
	if before.Health == load.Down && w.load.report.Health != load.Down && w.history.verdict.Up {
		w.history.verdict = Verdict{Up: true, Cause: "its agent does not say down any more", Since: now}
	}
	m.mu.Unlock()
	if changed {
		m.changed(key)
	}
}

// verdict is that of the probes, unless the target itself says that it is down.
func (w *watch) verdict() Verdict {
	v := w.history.verdict
	if v.Up && w.load.report.Health == load.Down {
		return Verdict{Cause: "its agent says " + w.load.report.String(), Since: w.load.at}
	}
	return v
}
