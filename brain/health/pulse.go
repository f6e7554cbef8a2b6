package health

import (
	"sync"
	"time"
)

// beat is how often a pulse beats.
const beat = 2 * time.Millisecond

// pulse feels how late this process runs: its timers, and with them the goroutines of its probes. It beats while probes are under
// way. The zero value is ready, and safe for concurrent use.
type pulse struct {
	mu      sync.Mutex
	feeling int // probes
	timer   *time.Timer
	due     time.Time     // when the next beat is
	lost    time.Duration // by beats that came late, in all
}

// begin returns what end is to be told.
func (p *pulse) begin() (lost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feeling++; p.feeling == 1 {
		p.due = time.Now().Add(beat)
		if p.timer == nil {
			p.timer = time.AfterFunc(beat, p.beat)
		} else {
			p.timer.Reset(beat)
		}
	}
	return p.lost
}

// end returns how long this process did not run since begin returned lost, as far as beats tell.
func (p *pulse) end(lost time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.feel(now)
	if p.feeling--; p.feeling == 0 {
		p.timer.Stop()
	}
	return p.lost - lost
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feeling == 0 {
		return
	}
	p.feel(time.Now())
	p.timer.Reset(time.Until(p.due))
}

// feel counts a beat that has not come in time. p.mu must be held.
func (p *pulse) feel(now time.Time) {
	late := now.Sub(p.due)
	if late > granularity {
		p.lost += late
	}
	if late >= 0 {
		p.due = now.Add(beat)
	}
}
