package failover

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// backend is one of those behind the service: a host with a server process that can be told to behave otherwise.
type backend struct {
	name, address string
	host          *lab.Host
	socket        string // on which the process is told what to do
	executable    string
	process       *lab.Process
	impairer      *impairer // of its link
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
func (b *backend) Close() error { return b.impairer.Close() }
