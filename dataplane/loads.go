package dataplane

import (
	"math"
	"sync/atomic"
	"time"
)

// loadMemory is the time constant with which the flows in progress of a backend are forgotten that were never
// seen to close: clients that vanish, ends that took another way. The count follows
//
//	dn/dt = opened - closed - n/loadMemory
//
// an exponential decay as that of the load in Finagle's peak EWMA balancer, which is shorter there since a
// latency is stale sooner than a connection. What it costs: connections that last longer are forgotten too. That
// is the same for all backends of a service, so they still compare.
const loadMemory = 10 * time.Minute

// decayLoads lets some time pass for the loads of all backends.
func (d *Dataplane) decayLoads(elapsed time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loads.items == nil { // closed
		return
	}
	for _, st := range d.state {
		if d.trackingFlags(st)&balancerServiceFlagsSERVICE_P2C == 0 {
			continue
		}
		for _, b := range st.backends {
			active := &d.loads.items[b.index].Active
			b.decayed += float64(atomic.LoadInt64(active)) * -math.Expm1(-elapsed.Seconds()/loadMemory.Seconds())
			whole := math.Trunc(b.decayed)
			b.decayed -= whole
			atomic.AddInt64(active, -int64(whole))
		}
	}
}
