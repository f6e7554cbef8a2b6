package dataplane

import "time"

const (
	// signalRate is how many signals a second are not too many. One costs about 120 ns in the program and some
	// microseconds in the daemon, so that this many take about a hundredth of a processor.
	signalRate = 4000
	// maxEvery is the smallest share of flows that is watched: of 64 million new flows a second it makes 4,000
	// signals at most.
	maxEvery = 1 << 16
)

// sampler chooses the share of flows that is watched, one of `every`, a power of two. It halves the share as soon
// as more than signalRate signals came in one second, or some were lost, and doubles it after a second with less
// than a quarter of that rate. Not safe for concurrent use.
type sampler struct {
	every uint32
	came  int       // since this second began
	due   time.Time // when it ends
}

func newSampler(now time.Time) sampler {
	return sampler{every: 1, due: now.Add(time.Second)}
}

// note is told that so many signals came, and whether others were lost; at the latest when s.due has come.
func (s *sampler) note(now time.Time, came int, lost bool) {
	s.came += came
	switch {
	case lost || s.came > signalRate:
		s.every = min(2*s.every, maxEvery)
	case now.Before(s.due):
		return
	case s.came < signalRate/4:
		s.every = max(s.every/2, 1)
	}
	s.came, s.due = 0, now.Add(time.Second)
}
