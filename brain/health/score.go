package health

import (
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/health/load"
)

// Terms are the factors of a score, each 0..1; 1 takes nothing away.
type Terms struct {
	Success    float64 `json:"success"`    // of probes
	Latency    float64 `json:"latency"`    // against the peers' median
	Handshakes float64 `json:"handshakes"` // answered in time, against the peers' median
	Load       float64 `json:"load"`       // that the backend reports
}

// Score returns the product of the terms, 0..1: how well a backend does now.
func (t Terms) Score() float64 { return t.Success * t.Latency * t.Handshakes * t.Load }

const (
	// A backend is slow from so many times the peers' median on, and its weight then is in inverse proportion, so that what
	// waits at it (Little's law: flows in progress = arrival rate x latency) stays about that of a backend at the limit.
	slowFactor = 2.0
	// Latencies up to about this are no reason to move traffic, whatever the proportion.
	slowFloor = time.Millisecond
	// So many samples at least make the time of handshakes, or the share of those that failed, comparable.
	enough = 8.0
	// The same for the latency of probes, which are fewer: one that took long is no reason to move traffic.
	enoughProbes = 3.0
	// Failed handshakes are counted as if so many good ones had been there besides: one that fails among few says little.
	priorHandshakes = 5.0
	// A backend that says it is fully loaded keeps this share of its weight.
	leastHeadroom = 0.05
)

// Peers are the medians over the backends of a group that are up; 0 where nothing is known.
type Peers struct {
	Latency          time.Duration // of probes
	Handshake        time.Duration
	HandshakesFailed float64 // share, 0..1
}

// compare finds the medians.
func compare(measures []Measures) Peers {
	var latency, handshake []time.Duration
	var failed []float64
	for _, m := range measures {
		if m.Latency > 0 {
			latency = append(latency, m.Latency)
		}
		if m.Handshakes.Seen >= enough {
			failed = append(failed, m.Handshakes.Failed)
			if m.Handshakes.Time > 0 {
				handshake = append(handshake, m.Handshakes.Time)
			}
		}
	}
	return Peers{median(latency), median(handshake), median(failed)}
}

// median returns the lower median, 0 of nothing.
func median[T time.Duration | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

// terms judges one backend against its peers:
//
//	success    = share of probes that succeeded
//	latency    = min(1, (2 median + 1 ms) / own), the worse of probes and handshakes
//	handshakes = 1 - max(0, failed - median failed) / (1 - median failed)
//	load       = what its agent says (75% is 0.75) x max(0.05, 1 - used), used being its metric / the metric when full
func (p Peers) terms(m Measures) Terms {
	t := Terms{Success: m.Success, Latency: 1, Handshakes: 1, Load: headroom(m.Load)}
	if m.Latency > 0 {
		t.Latency = slowness(m.Latency, p.Latency)
	}
	if m.Handshakes.Seen >= enough {
		if m.Handshakes.Time > 0 {
			t.Latency = min(t.Latency, slowness(m.Handshakes.Time, p.Handshake))
		}
		if excess := m.Handshakes.Failed - p.HandshakesFailed; excess > 0 {
			t.Handshakes = 1 - excess/(1-p.HandshakesFailed)
		}
	}
	return t
}

func headroom(r load.Report) float64 {
	factor := 1.0
	if r.Weight != nil {
		factor = min(1, *r.Weight)
	}
	if r.Load != nil {
		factor *= max(leastHeadroom, 1-*r.Load)
	}
	return factor
}

func slowness(own, median time.Duration) float64 {
	if median == 0 {
		return 1
	}
	return min(1, (slowFactor*float64(median)+float64(slowFloor))/float64(own))
}
