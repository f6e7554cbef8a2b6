package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicelb/sluice/test/traffic"
)

// sample is one request of the load.
type sample struct {
	class string // kind of traffic, such as "HTTP IPv4"
	traffic.Result
}

// event is one thing that happens to a backend.
type event struct {
	kind    Kind
	backend string
	at      time.Time
}

// recorder keeps what happened. Its methods are safe for concurrent use.
type recorder struct {
	mu      sync.Mutex
	began   time.Time
	samples []sample
	events  []event
}

// happens notes an event.
func (r *recorder) happens(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// all returns what was recorded until now.
func (r *recorder) all() (began time.Time, samples []sample, events []event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began, slices.Clone(r.samples), slices.Clone(r.events)
}

// The load is moderate: everything shares this machine's processors.
const (
	httpRate       = 60 // requests per second and family, each over a new connection
	udpRate        = 40 // requests per second and family, each from a new socket
	requestTimeout = time.Second
	workers        = 64 // more than can wait for a backend that is silent
)

// start sends requests to every service until ctx ends or the function that it returns is called, which
// waits for the answers.
func (r *recorder) start(ctx context.Context, s *site) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.began = time.Now()
	var loads sync.WaitGroup
	for _, f := range families {
		for class, load := range map[string]traffic.Load{
			"HTTP": {Exchange: traffic.HTTP(s.outside, endpoint(f.service, httpPort), 1000), Rate: httpRate},
			"UDP":  {Exchange: traffic.Datagram(s.outside, endpoint(f.service, udpPort), 100), Rate: udpRate},
		} {
			load.Workers, load.Timeout = workers, requestTimeout
			load.Observe = func(result traffic.Result) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.samples = append(r.samples, sample{class + " " + f.name, result})
			}
			loads.Go(func() { load.Run(ctx) })
		}
	}
	return func() {
		cancel()
		loads.Wait()
	}
}

// endpoint joins an address and a port.
func endpoint(address string, port int) string {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return fmt.Sprintf("%s:%d", address, port)
}
