package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/traffic"
)

const (
	flowInterval    = 250 * time.Millisecond
	flowsPerBackend = 2  // at least, of each kind
	maxFlows        = 64 // of each kind; 64 leave a backend of four with less than two once in four million times
)

// flow is a long-lived connection, with the time of its end.
type flow struct {
	*traffic.Flow
	ended chan time.Time
}

// openFlows opens long-lived flows of each protocol and family until every backend has some of each.
func openFlows(ctx context.Context, s *site) ([]*flow, error) {
	var flows []*flow
	for _, f := range families {
		for network, port := range map[string]int{"tcp": echoPort, "udp": udpPort} {
			missing := backendCount * flowsPerBackend
			count := make(map[string]int)
			for n := 0; missing > 0; n++ {
				if n == maxFlows {
					return nil, fmt.Errorf("%d long-lived %s flows over %s leave a backend without: %v", n, network, f.name, count)
				}
				opened, err := traffic.OpenFlow(ctx, s.outside, network, endpoint(f.service, port), flowInterval)
				if err != nil {
					return nil, fmt.Errorf("opening a long-lived %s flow over %s: %w", network, f.name, err)
				}
				flows = append(flows, watchFlow(opened))
				if count[opened.Backend()]++; count[opened.Backend()] <= flowsPerBackend {
					missing--
				}
			}
		}
	}
	return flows, nil
}

func watchFlow(opened *traffic.Flow) *flow {
	f := &flow{Flow: opened, ended: make(chan time.Time, 1)}
	go func() {
		<-f.Done()
		f.ended <- time.Now()
	}()
	return f
}

// alive says whether the flow had an echo lately.
func (f *flow) alive(now time.Time) bool { return now.Sub(f.Last()) < 4*flowInterval }

// flowEnd is how a flow ended.
type flowEnd struct {
	backend string
	at      time.Time // when it broke, otherwise when it was closed
	err     error     // nil for one that lived until it was closed in good order
}

// closeFlows closes all flows in good order, at the same time.
func closeFlows(flows []*flow) []flowEnd {
	ends := make([]flowEnd, len(flows))
	var closing sync.WaitGroup
	for i, f := range flows {
		closing.Go(func() {
			err := f.Close()
			ends[i] = flowEnd{backend: f.Backend(), at: <-f.ended, err: err}
		})
	}
	closing.Wait()
	return ends
}
