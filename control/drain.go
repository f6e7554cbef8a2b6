package control

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/sluicelb/sluice/dataplane"
)

// LiveFlows says how many flows a backend still serves.
type LiveFlows struct {
	Flows int `json:"flows" doc:"Of which a packet was seen within the time asked for, and that were not closed; at first those too that may have been seen before"`
}

// The time after which a silent flow is taken to be over.
const (
	DefaultIdle  = time.Minute
	shortestIdle = time.Second
	longestIdle  = 9 * time.Hour
)

// flowsRequest names a backend, as in backendRef.
type flowsRequest struct {
	Service string `path:"service"`
	Backend string `path:"backend"`
	Idle    string `query:"idle" doc:"After this time without a packet a flow is over, 1s to 9h. Default: 1m"`
}

// liveFlows counts the flows of a backend that drains, or is in mode nat.
func (d *Daemon) liveFlows(r flowsRequest) (LiveFlows, error) {
	idle := Duration(DefaultIdle)
	if r.Idle != "" {
		if err := idle.UnmarshalText([]byte(r.Idle)); err != nil {
			return LiveFlows{}, tag(ErrInvalid, "idle: %v", err)
		}
	}
	if time.Duration(idle) < shortestIdle || time.Duration(idle) > longestIdle {
		return LiveFlows{}, tag(ErrInvalid, "idle: %s is not within %s..%s", idle, shortestIdle, longestIdle)
	}
	key, place, err := d.places(r.Service, r.Backend)
	if err != nil {
		return LiveFlows{}, err
	}
	flows, err := d.dataplane.LiveFlows(key, place, time.Duration(idle))
	if errors.Is(err, dataplane.ErrUnknown) {
		err = tag(ErrConflict, "%v", err)
	}
	return LiveFlows{Flows: flows}, err
}

// places finds what the kernel knows a backend by.
func (d *Daemon) places(service, backend string) (dataplane.ServiceKey, netip.AddrPort, error) {
	m := d.store.Manifest()
	i, err := m.find(service)
	if err != nil {
		return dataplane.ServiceKey{}, netip.AddrPort{}, err
	}
	b, err := m.Services[i].Backend(backend)
	return m.Services[i].Key(), b.place(), err
}

// LiveFlows counts the flows of which a packet was seen within idle, and that were not closed, of a backend that drains.
// ErrConflict says that they are not known.
func (c *Client) LiveFlows(ctx context.Context, service, backend string, idle time.Duration) (int, error) {
	query := url.Values{"idle": {idle.String()}}
	flows, err := call[LiveFlows](ctx, c, http.MethodGet, backendPath(service, backend)+"/flows?"+query.Encode(), nil)
	return flows.Flows, err
}
