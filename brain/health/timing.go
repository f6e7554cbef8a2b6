package health

import "time"

// Timing says when a target is probed and how long an answer may take.
type Timing struct {
	Interval time.Duration // from the beginning of a probe to that of the next, > 0
	Timeout  time.Duration // of a probe while the target's latency is not known, and the longest later on, > 0
	Floor    time.Duration // the shortest timeout, however fast the target answers
	Patience int           // how many times its usual latency a target may take to answer, >= 1
	Confirm  time.Duration // from one probe that confirms a miss to the next
	Rise     int           // successes in a row that make it up, >= 1
	Fall     int           // failures in a row that make it down, >= 1
}

// Profile is a name for a Timing.
type Profile string

// The profiles. A host that falls silent is down after Interval + late + (Fall-1) Confirm + Floor at most, which is about 135 ms,
// 35 ms and 2.4 s; a server that accepts connections and answers no more, after Patience times its usual latency instead of Floor.
//
// Patience is about the tenfold latency that overload brings, or more, since a slow backend is to get less traffic, not none.
const (
	ProfileDefault Profile = "default"
	ProfileFast    Profile = "fast"
	ProfileGentle  Profile = "gentle"
)

// Timing returns what the profile stands for, false for an unknown one.
func (p Profile) Timing() (Timing, bool) {
	const ms = time.Millisecond
	switch p {
	case ProfileDefault:
		return Timing{Interval: 100 * ms, Timeout: 100 * ms, Floor: 20 * ms, Patience: 16, Confirm: 5 * ms, Rise: 2, Fall: 3}, true
	case ProfileFast:
		return Timing{Interval: 15 * ms, Timeout: 50 * ms, Floor: 10 * ms, Patience: 11, Confirm: 2 * ms, Rise: 2, Fall: 3}, true
	case ProfileGentle:
		return Timing{Interval: 2000 * ms, Timeout: 1000 * ms, Floor: 200 * ms, Patience: 16, Confirm: 50 * ms, Rise: 2, Fall: 3}, true
	}
	return Timing{}, false
}

// granularity is the least time beyond the mean after which an answer is late: G in RFC 6298, here for a host that is busy.
const granularity = time.Millisecond

// estimator follows the latency of a target, after RFC 6298, section 2, with its factors 1/8, 1/4 and 4.
type estimator struct {
	mean, deviation time.Duration
	known           bool
}

func (e *estimator) observe(latency time.Duration) {
	if !e.known {
		*e = estimator{mean: latency, deviation: latency / 2, known: true}
		return
	}
	e.deviation += ((e.mean - latency).Abs() - e.deviation) / 4
	e.mean += (latency - e.mean) / 8
}

// late is the time after which a missing answer gives reason to look more closely; the retransmission timeout of the RFC.
func (e *estimator) late() time.Duration { return e.mean + max(granularity, 4*e.deviation) }

// timeout is the time after which there will be no answer.
func (e *estimator) timeout(t Timing) time.Duration {
	if !e.known {
		return t.Timeout
	}
	return min(max(time.Duration(t.Patience)*e.mean, e.late(), t.Floor), t.Timeout)
}
