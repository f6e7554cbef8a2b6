package failover

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// haproxy is HAProxy in TCP mode in the place of Sluice, where it is installed.
type haproxy struct {
	site    *site
	program string
	socket  string
	daemon  *lab.Process
}

// findHAProxy returns the program, "" when it is not installed.
func findHAProxy() string {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} { // not everybody's PATH has the folder
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// haproxyConfig has checks as fast as Sluice's fast profile. A connection that is refused is tried again at the
// same server, since there is no `option redispatch`.
const haproxyConfig = `global
    stats socket %s mode 600
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen ` + serviceName + `
    bind ` + target + `
    balance roundrobin
`

func (c *haproxy) start(ctx context.Context) error {
	c.socket = filepath.Join(c.site.Folder, "haproxy.sock")
	var text strings.Builder
	fmt.Fprintf(&text, haproxyConfig, c.socket)
	for _, b := range c.site.backends {
		fmt.Fprintf(&text, "    server %s %s:%s check inter 10ms fall 3\n", b.name, b.address, servicePort)
	}
	file := filepath.Join(c.site.Folder, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return err
	}
	if err := c.site.host.Addr("lo", stage.ServiceAddress+"/32"); err != nil {
		return err
	}
	var err error
	if c.daemon, err = c.site.host.Command(ctx, c.program, "-db", "-f", file); err != nil {
		return err
	}
	return stage.Await(ctx, readyWithin, c.daemon, c.ready)
}

func (c *haproxy) process() *lab.Process { return c.daemon }

func (c *haproxy) ready(context.Context) error {
	states, err := c.states()
	if err != nil {
		return err
	}
	for _, b := range c.site.backends {
		if states[b.name] != "UP" { // "UP 2/3" is on its way down
			return fmt.Errorf("HAProxy says that %s is %q", b.name, states[b.name])
		}
	}
	return nil
}

func (c *haproxy) ejected(ctx context.Context, name string) (time.Time, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		states, err := c.states()
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

// states asks for the states of the servers (HAProxy's management guide, section 9.3, "show stat").
func (c *haproxy) states() (map[string]string, error) {
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show stat "+serviceName+" 4 -1\n"); err != nil { // 4: servers
		return nil, err
	}
	const name, status = 1, 17 // columns, section 9.1
	rows := csv.NewReader(conn)
	states := make(map[string]string)
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return states, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading HAProxy's statistics: %w", err)
		}
		if len(row) > status {
			states[row[name]] = row[status]
		}
	}
}
