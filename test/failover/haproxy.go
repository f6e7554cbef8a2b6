package failover

import (
	"context"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// haproxy is HAProxy in the place of Sluice, where it is installed.
type haproxy struct {
	site   *site
	daemon *stage.HAProxy
}

// start has it check as fast as Sluice's fast profile.
func (c *haproxy) start(ctx context.Context) error {
	var err error
	c.daemon, err = c.site.StartHAProxy(ctx, c.site.network, "inter 10ms fall 3", readyWithin)
	return err
}

func (c *haproxy) process() *lab.Process { return c.daemon.Process }

func (c *haproxy) ready(context.Context) error { return c.daemon.Ready() }

func (c *haproxy) ejected(ctx context.Context, name string) (time.Time, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		states, err := c.daemon.States()
		if err != nil {
			return time.Time{}, err
		}
		if strings.HasPrefix(states[name], "DOWN") {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-ticker.C:
		}
	}
}
