package health

import "time"

// What is known of very many targets changes in a few of them at a time. Whoever decides about them need not look at all:
// Monitor.Touched and Group.Waits tell of all that a decision can follow from but the wishes.

// Touched returns the targets of which something is known anew since the last call, or what is known of them changes
// while nothing happens: of the others, Look returns measures that lead to the same decisions.
//
// Averages of probes keep their values as they age, since samples and weights fade alike. What is known of handshakes does not,
// and counts until too few are left.
func (m *Monitor[K]) Touched() []K {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	keys := make([]K, 0, len(m.touched))
	for key := range m.touched {
		keys = append(keys, key)
		if w := m.watches[key]; w == nil || w.passive.handshakes(now).Seen < enough {
			delete(m.touched, key)
		}
	}
	return keys
}

// unknown is the watch of all targets that are neither probed nor asked and of which no connection was seen, since there
// may be very many of them. m.mu must be held.
func (m *Monitor[K]) unknown(target Target) *watch {
	if m.quiet == nil || m.quiet.target != target {
		m.quiet = &watch{target: target, shared: true, stop: func() {}}
		m.quiet.history.verdict.Up = true
		m.quiet.passive.span = target.span()
	}
	return m.quiet
}

// Waits says that decisions may change by time alone: a member is held back, ejected, or its weight grows. In each case it is
// known when its slow start begins.
func (g *Group[K]) Waits() bool {
	for _, s := range g.members {
		if !s.back.IsZero() {
			return true
		}
	}
	return false
}
