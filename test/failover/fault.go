package failover

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicelb/sluice/test/stage"
)

// Fault is what happens to a backend.
type Fault string

// The faults.
const (
	Kill     Fault = "kill"      // its process is killed
	Stop     Fault = "stop"      // its process is stopped: the kernel still accepts connections
	LinkDown Fault = "link_down" // its link goes down, at its own end
	Reset    Fault = "reset"     // every packet to it is answered with a RST
	Silent   Fault = "silent"    // nothing comes in or goes out any more
	Loss     Fault = "loss"      // half of all packets are lost, in both directions
	Slow     Fault = "slow"      // its answers take ten times as long
)

// Faults are all of them, in the order that they are measured.
var Faults = []Fault{Kill, Stop, LinkDown, Reset, Silent, Loss, Slow}

// inject lets the fault happen.
func (s *site) inject(f Fault, b *backend) error {
	switch f {
	case Kill:
		b.process.Kill()
	case Stop:
		b.process.Stop()
	case LinkDown:
		return b.host.LinkDown(uplink)
	case Reset:
		return b.tell(resetPeers)
	case Silent:
		return b.impairer.lose(1)
	case Loss:
		return b.impairer.lose(0.5)
	case Slow:
		return b.tell(serveSlow)
	default:
		return fmt.Errorf("%q is no fault", f)
	}
	return nil
}

// heal undoes it.
func (s *site) heal(ctx context.Context, f Fault, b *backend) error {
	switch f {
	case Kill:
		_ = b.process.Wait()
		return b.run(ctx)
	case Stop:
		b.process.Continue()
		return nil
	case LinkDown:
		return errors.Join(b.host.LinkUp(uplink), b.host.Route(stage.ClientNet, stage.Gateway))
	case Silent, Loss:
		return b.impairer.lose(0)
	default:
		return b.tell(serveWell)
	}
}
