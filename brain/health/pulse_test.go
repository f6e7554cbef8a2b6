package health

import (
	"testing"
	"testing/synctest"
	"time"
)

// delay has the next beat come so much too late.
func (p *pulse) delay(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = p.due.Add(-late)
}

func TestPulseFeelsWhatWasLost(t *testing.T) {
	const late = 7 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		first := p.begin()
		time.Sleep(20 * beat)
		second := p.begin()
		p.delay(late)
		time.Sleep(20 * beat)
		third := p.begin()
		time.Sleep(20 * beat)
		for name, c := range map[string]struct{ lost, want time.Duration }{
			"before": {p.end(first), late}, "when": {p.end(second), late}, "after": {p.end(third), 0},
		} {
			if c.lost < c.want-beat || c.lost > c.want {
				t.Errorf("what began %s it was late has lost %v, want %v", name, c.lost, c.want)
			}
		}
	})
}

// What is late when nobody feels the pulse is not counted, and what is late at the end is.
func TestPulseRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		p.end(p.begin())
		time.Sleep(time.Hour)
		lost := p.begin()
		if got := p.end(lost); got != 0 {
			t.Errorf("a rest of an hour has lost %v", got)
		}
		lost = p.begin()
		p.delay(10 * beat)
		if got := p.end(lost); got != 9*beat {
			t.Errorf("a beat that is %v late has lost %v", 9*beat, got)
		}
	})
}
