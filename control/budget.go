package control

import (
	"fmt"
	"time"

	"github.com/sluicelb/sluice/brain/health"
)

// ProbesConfig limits what probing costs.
type ProbesConfig struct {
	Rate  int     `json:"rate"`  // probes per second that are always allowed
	Share Percent `json:"share"` // of the packets that are forwarded, which allows more of them
	Exec  bool    `json:"exec"`  // whether services may have programs run
}

// More than this one host cannot send.
const maxProbeRate = 1_000_000

// longestInterval of a probe that is stretched, so that arithmetic with it does not overflow.
const longestInterval = 24 * time.Hour

// A probe of TCP with a request and its answer is about so many packets, both ways.
const packetsPerProbe = 10

// budget stretches the intervals of probes so that they stay within it: at about 100 µs of a processor for each probe the
// default rate is a fifth of one. Not safe for concurrent use.
type budget struct {
	config    ProbesConfig
	intervals map[time.Duration]int // how many targets are probed at each interval, as wished
	factor    int
	packets   uint64 // forwarded when last looked at
	at        time.Time
	rate      float64 // packets per second
}

func newBudget(config ProbesConfig) *budget {
	return &budget{config: config, intervals: make(map[time.Duration]int), factor: 1}
}

// count adds so many targets that are probed like one, or takes them away.
func (b *budget) count(t health.Target, n int) {
	if t.Probe.Kind == "" {
		return
	}
	if b.intervals[t.Interval] += n; b.intervals[t.Interval] == 0 {
		delete(b.intervals, t.Interval)
	}
}

// wanted is how many probes a second the wished intervals make.
func (b *budget) wanted() (rate float64) {
	for interval, n := range b.intervals {
		rate += float64(n) * float64(time.Second) / float64(interval)
	}
	return rate
}

// allowed is how many probes may be sent in a second.
func (b *budget) allowed() float64 {
	return max(float64(b.config.Rate), b.config.Share.fraction()*b.rate/packetsPerProbe)
}

// roomToSpare is how much of the budget may be used for the factor to become smaller: not one backend that comes and goes
// changes it each time.
const roomToSpare = 0.9

// fit finds the factor that brings the probes within the budget, and says whether it is another one. It is a power of two,
// so that one backend more or less seldom changes it, which restarts every probe.
func (b *budget) fit() (changed bool) {
	before, wanted, allowed := b.factor, b.wanted(), b.allowed()
	for wanted > float64(b.factor)*allowed {
		b.factor *= 2
	}
	for b.factor > 1 && wanted <= roomToSpare*float64(b.factor/2)*allowed {
		b.factor /= 2
	}
	return b.factor != before
}

// stretched is the interval that comes of one that is wished.
func (b *budget) stretched(interval time.Duration) time.Duration {
	factor := time.Duration(b.factor)
	return min(interval, longestInterval/factor) * factor
}

// exceeded says that the rate that is always allowed does not suffice.
func (b *budget) exceeded() bool { return b.wanted() > float64(b.config.Rate) }

// observe takes the number of packets forwarded so far.
func (b *budget) observe(packets uint64, now time.Time) {
	if passed := now.Sub(b.at); !b.at.IsZero() && passed > 0 && packets >= b.packets {
		b.rate = float64(packets-b.packets) / passed.Seconds()
	}
	b.packets, b.at = packets, now
}

// text says that probes are fewer than wished, "" when they are not.
func (b *budget) text() string {
	if b.factor == 1 {
		return ""
	}
	return fmt.Sprintf("backends are probed %d times more seldom than wished, to stay within %.0f probes a second (probes.rate)", b.factor, b.allowed())
}
