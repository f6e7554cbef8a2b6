package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
)

// sluice is Sluice with the probes of a profile.
type sluice struct {
	site       *site
	executable string
	profile    string
}

func (c *sluice) start(ctx context.Context) error {
	services, err := c.site.services(c.profile, c.site.mode)
	if err != nil {
		return err
	}
	if err := c.site.StartDaemon(ctx, c.site.host, c.executable, "clients,backends"); err != nil {
		return err
	}
	return c.site.Apply(ctx, services, readyWithin, notReady)
}

func (c *sluice) process() *lab.Process { return c.site.Daemon }

func (c *sluice) ready(ctx context.Context) error {
	status, err := c.site.Client.Status(ctx)
	if err != nil {
		return err
	}
	return notReady(status)
}

// fullShare is at least how much of an equal share of the slots a backend has when it takes its full part.
const fullShare = 0.95

func notReady(status control.Status) error {
	for _, service := range status.Services {
		for _, b := range service.Backends {
			if b.State != control.StateUp || !b.NextHop.Resolved || b.Share < fullShare/float64(len(service.Backends)) {
				return fmt.Errorf("backend %s is %s with %.1f %% of the slots: %s", b.Name, b.State, b.Share*100, b.Cause+b.NextHop.Reason)
			}
		}
	}
	return nil
}

// ejected watches the kernel's memory, where the daemon switches tables, since asking the daemon each millisecond
// would take much of a processor that it needs itself. What the switch was about only the daemon is asked.
func (c *sluice) ejected(ctx context.Context, name string) (time.Time, error) {
	services, err := ebpf.LoadPinnedMap(filepath.Join(c.site.Pins, "services"), nil)
	if err != nil {
		return time.Time{}, err
	}
	defer services.Close()
	memory, err := services.Memory()
	if err != nil {
		return time.Time{}, err
	}
	var now, before = make([]byte, memory.Size()), make([]byte, memory.Size())
	if _, err := memory.ReadAt(before, 0); err != nil {
		return time.Time{}, err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var switched time.Time
	for asked := time.Now(); ; {
		at := time.Now()
		if _, err := memory.ReadAt(now, 0); err != nil {
			return time.Time{}, err
		}
		changed := !bytes.Equal(now, before)
		if changed {
			switched = at
			copy(before, now)
		}
		if changed || at.Sub(asked) > askInterval {
			asked = at
			share, err := c.share(ctx, name)
			if err != nil {
				return time.Time{}, err
			}
			if share <= 0.5/backendCount {
				if switched.IsZero() {
					switched = at
				}
				return switched, nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-ticker.C:
		}
	}
}

const (
	pollInterval = time.Millisecond      // of what costs next to nothing
	askInterval  = 50 * time.Millisecond // of the daemon, should a switch have been missed
)

// share returns a backend's share of the slots, 0..1.
func (c *sluice) share(ctx context.Context, name string) (float64, error) {
	status, err := c.site.Client.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, service := range status.Services {
		i := slices.IndexFunc(service.Backends, func(b control.BackendStatus) bool { return b.Name == name })
		if i >= 0 {
			return service.Backends[i].Share, nil
		}
	}
	return 0, errors.New("the daemon does not know the backend " + name)
}
