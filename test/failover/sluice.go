package failover

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
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
	if err := c.site.StartDaemon(ctx, c.site.network.Balancer, c.executable, stage.Interfaces); err != nil {
		return err
	}
	return c.site.Apply(ctx, services, readyWithin, stage.Unequal)
}

func (c *sluice) process() *lab.Process { return c.site.Daemon }

func (c *sluice) ready(ctx context.Context) error {
	status, err := c.site.Client.Status(ctx)
	if err != nil {
		return err
	}
	return stage.Unequal(status)
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
