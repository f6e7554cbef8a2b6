package day

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

// Beside requests there are connections that stay for a while, shorter than a backend may drain.
const (
	flowsPerSecond = 3
	flowLives      = 3 * time.Second // at most
	flowInterval   = 250 * time.Millisecond
	requestTimeout = 3 * time.Second
	waiting        = 1024 // requests at the same time, at most
	requestBytes   = 200
)

// recorder keeps what happened. Its methods are safe for concurrent use.
type recorder struct {
	mu       sync.Mutex
	requests []traffic.Result
	flows    int
	moved    []error
	fleet    []moment // the latest last
}

// moment is what was seen of the backends.
type moment struct {
	at           time.Time
	ready, there int
	predictive   bool
}

// traffic sends requests as the day has it until ctx ends or the function that it returns is called, which waits for the answers.
func (d *day) traffic(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	load := traffic.Load{
		Exchange: traffic.HTTP(d.network.Client, stage.Target, requestBytes), Workers: waiting, Timeout: requestTimeout,
		Gap: func() time.Duration { return time.Duration(rand.ExpFloat64() / rate(d.ofDay()) * float64(time.Second)) },
		Observe: func(r traffic.Result) {
			d.seen.mu.Lock()
			defer d.seen.mu.Unlock()
			d.seen.requests = append(d.seen.requests, r)
		},
	}
	all.Go(func() { load.Run(ctx) })
	all.Go(func() {
		for stage.Sleep(ctx, time.Duration(rand.ExpFloat64()*float64(time.Second)/flowsPerSecond)) == nil {
			all.Go(func() { d.flow(ctx) })
		}
	})
	return func() { cancel(); all.Wait() }
}

// flow is one connection that stays.
func (d *day) flow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flowLives+2*traffic.FlowTimeout)
	defer cancel()
	f, err := traffic.OpenFlow(ctx, d.network.Client, "http", stage.Target, flowInterval)
	if err == nil {
		_ = stage.Sleep(ctx, time.Duration(rand.Float64()*float64(flowLives)))
		err = f.Close()
	}
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	d.seen.flows++
	if err != nil {
		d.seen.moved = append(d.seen.moved, err)
	}
}
