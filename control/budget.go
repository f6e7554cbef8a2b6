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
	config  ProbesConfig
	wanted  float64 // probes per second at the intervals that are wished
	factor  int
	packets uint64 // forwarded when last looked at
	at      time.Time
	rate    float64 // packets per second
}

func newBudget(config ProbesConfig) *budget { return &budget{config: config, factor: 1} }

// allowed is how many probes may be sent in a second.
func (b *budget) allowed() float64 {
	return max(float64(b.config.Rate), b.config.Share.fraction()*b.rate/packetsPerProbe)
}

// stretch finds the factor that brings the probes of the targets within the budget. It is a power of two, so that one
// backend more or less seldom changes it, which restarts every probe.
func (b *budget) stretch(targets map[target]health.Target) {
	b.wanted = 0
	for _, t := range targets {
		if t.Probe.Kind != "" {
			b.wanted += float64(time.Second) / float64(t.Interval)
		}
	}
	b.factor = 1
	for b.wanted > float64(b.factor)*b.allowed() {
		b.factor *= 2
	}
}

// stretched is the interval that comes of one that is wished.
func (b *budget) stretched(interval time.Duration) time.Duration {
	factor := time.Duration(b.factor)
	return min(interval, longestInterval/factor) * factor
}

// exceeded says that the rate that is always allowed does not suffice.
func (b *budget) exceeded() bool { return b.wanted > float64(b.config.Rate) }

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
