package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

const (
	flowCount    = 200
	flowInterval = 250 * time.Millisecond
	flowOpeners  = 8 // at the same time
)

// flow is a long-lived connection.
type flow struct {
	*traffic.Flow
	cancel context.CancelFunc
}

// disturbed says whether the flow broke, changed its backend or has had no answer lately.
func (f *flow) disturbed() bool { return f.Err() != nil || time.Since(f.Last()) > 4*flowInterval }

// flows are the long-lived connections.
type flows struct {
	from *lab.Host
	open []*flow
}

// fill opens flows until there are flowCount.
func (f *flows) fill(ctx context.Context) error {
	missing := flowCount - len(f.open)
	opened, errs := make([]*flow, missing), make([]error, missing)
	var opening sync.WaitGroup
	tickets := make(chan struct{}, flowOpeners)
	for i := range missing {
		tickets <- struct{}{}
		opening.Go(func() {
			opened[i], errs[i] = openFlow(ctx, f.from)
			<-tickets
		})
	}
	opening.Wait()
	for _, each := range opened {
		if each != nil {
			f.open = append(f.open, each)
		}
	}
	return errors.Join(errs...)
}

func openFlow(ctx context.Context, from *lab.Host) (*flow, error) {
	ctx, cancel := context.WithCancel(ctx)
	opened, err := traffic.OpenFlow(ctx, from, "http", target, flowInterval)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening a long-lived connection: %w", err)
	}
	return &flow{opened, cancel}, nil
}

// disturbed counts the flows of other backends that a fault of one should have left alone.
func (f *flows) disturbed(faulty string) int {
	count := 0
	for _, each := range f.open {
		if each.Backend() != faulty && each.disturbed() {
			count++
		}
	}
	return count
}

// renew replaces the flows of one backend, and those that are over anyway.
func (f *flows) renew(ctx context.Context, backend string) error {
	var rest, gone []*flow
	for _, each := range f.open {
		if each.Backend() == backend || each.disturbed() {
			gone = append(gone, each)
		} else {
			rest = append(rest, each)
		}
	}
	end(gone)
	f.open = rest
	return f.fill(ctx)
}

func (f *flows) close() { end(f.open) }

// end breaks flows off.
func end(flows []*flow) {
	for _, each := range flows {
		each.cancel()
	}
	for _, each := range flows {
		<-each.Done() // within flowInterval
	}
}
