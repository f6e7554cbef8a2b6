package scale

import (
	"math"
	"time"
)

// Reactive is the algorithm of Kubernetes' HorizontalPodAutoscaler (its documentation, "Algorithm details", and
// pkg/controller/podautoscaler), for a metric that is a load shared by the instances: ceil(instances x metric / target) where
// the metric is more than a tenth off, the highest of what was desired in the last five minutes, at most four more or
// twice as many at once. It is asked every Period. The zero value of its state is ready for use.
type Reactive struct {
	Target float64 // utilisation of the ready instances to aim at, above 0 to 1

	desired []desire
}

// desire is what was desired at a time.
type desire struct {
	at        time.Time
	instances int
}

// The defaults of kube-controller-manager: --horizontal-pod-autoscaler-sync-period, -tolerance and -downscale-stabilization, and of
// behavior.scaleUp.
const (
	Period        = 15 * time.Second
	tolerance     = 0.1
	stabilisation = 300 * time.Second
	mostMore      = 4
	mostTimes     = 2
)

// Desired returns how many instances there shall be, at a load in requests per second of instances that serve rate each, of
// which some are ready and total are there, with those that boot.
func (r *Reactive) Desired(now time.Time, load, rate float64, ready, total int) int {
	want := total
	if use := load / (float64(max(ready, 1)) * rate) / r.Target; math.Abs(use-1) > tolerance {
		want = int(math.Ceil(use*float64(max(ready, 1)) - 1e-9))
	}
	want = max(want, 1)
	r.desired = append(r.desired, desire{now, want})
	for now.Sub(r.desired[0].at) > stabilisation {
		r.desired = r.desired[1:]
	}
	for _, d := range r.desired {
		want = max(want, d.instances)
	}
	return min(want, max(mostTimes*total, total+mostMore))
}
