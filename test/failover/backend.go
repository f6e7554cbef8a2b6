package failover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// backend is one of those behind the service: a host with a server process that can be told to behave otherwise.
type backend struct {
	name, address string
	host          *lab.Host
	socket        string // on which the process is told what to do
	pins          string // of what takes outer headers off
	executable    string
	process       *lab.Process
	impairer      *impairer // of its link
}

// prepare lets the host receive traffic of a mode, as docs/operations.md says.
func (b *backend) prepare(executable string, mode dataplane.Mode) error {
	b.executable = executable
	var err error
	if b.impairer, err = attachImpairer(b.host, uplink); err != nil || mode == dataplane.ModeNAT {
		return err
	}
	err = errors.Join(
		b.host.Addr("lo", serviceAddress+"/32"),
		b.host.Sysctl("net.ipv4.conf.all.arp_ignore", "1"),
		b.host.Sysctl("net.ipv4.conf.all.arp_announce", "2"),
	)
	if err != nil || !mode.Encapsulates() {
		return err
	}
	return b.host.Do(func() error {
		_, err := dataplane.AttachDecap(uplink, dataplane.XDPAuto, b.pins)
		return err
	})
}

// run starts the process and waits until it serves.
func (b *backend) run(ctx context.Context) error {
	var err error
	if b.process, err = b.host.Command(ctx, b.executable, BackendCommand, b.name, b.socket); err != nil {
		return err
	}
	return stage.Await(ctx, readyWithin, b.process, func(context.Context) error { return b.tell(serveWell) })
}

// tell has the process behave so from now on.
func (b *backend) tell(how behaviour) error {
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(readyWithin))
	if _, err := fmt.Fprintln(conn, how); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("backend %s does not %s: %w", b.name, how, err)
	}
	if answer = strings.TrimSpace(answer); answer != "" {
		return fmt.Errorf("backend %s does not %s: %s", b.name, how, answer)
	}
	return nil
}

// Close lets go of what outlives the lab.
func (b *backend) Close() error { return errors.Join(b.impairer.Close(), dataplane.Unload(b.pins)) }
