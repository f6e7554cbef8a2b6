package scale

import "time"

// Fleet is a model of equal instances that take a while to boot. Those that are not needed any more end at once.
type Fleet struct {
	Ready   int
	booting []time.Time // when they are ready, in order
	boot    time.Duration
}

// NewFleet returns instances that are ready.
func NewFleet(ready int, boot time.Duration) *Fleet { return &Fleet{Ready: ready, boot: boot} }

// Total is how many there are, with those that boot.
func (f *Fleet) Total() int { return f.Ready + len(f.booting) }

// Advance has those become ready whose time has come.
func (f *Fleet) Advance(now time.Time) {
	for len(f.booting) > 0 && !f.booting[0].After(now) {
		f.booting = f.booting[1:]
		f.Ready++
	}
}

// Scale starts instances, or ends some, first those that boot. It says whether it did anything.
func (f *Fleet) Scale(now time.Time, to int) bool {
	if to == f.Total() {
		return false
	}
	for f.Total() < to {
		f.booting = append(f.booting, now.Add(f.boot))
	}
	boots := max(len(f.booting)-(f.Total()-max(to, 0)), 0)
	f.booting = f.booting[:boots]
	f.Ready = min(f.Ready, max(to-boots, 0))
	return true
}
