package stage

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
)

// HAProxy is HAProxy in TCP mode on the balancer of a network, in the place of Sluice.
type HAProxy struct {
	Process  *lab.Process
	backends []Backend
	socket   string
}

// FindProgram returns the path of an administrator's program, "" when it is not installed. Not everybody's PATH has
// the folder of these.
func FindProgram(name string) string {
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// haproxyConfig tries a connection that is refused again at the same server, since there is no `option redispatch`.
const haproxyConfig = `global
    stats socket %s mode 600
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen ` + ServiceName + `
    bind ` + Target + `
    balance roundrobin
`

// StartHAProxy starts it on the balancer and waits, at most so long, until every backend is up. Check is what is said
// of each server's checks, such as "inter 10ms fall 3", "" for HAProxy's own defaults.
func (s *Stage) StartHAProxy(ctx context.Context, n *Network, check string, within time.Duration) (*HAProxy, error) {
	h := &HAProxy{backends: n.Backends, socket: filepath.Join(s.Folder, "haproxy.sock")}
	var text strings.Builder
	fmt.Fprintf(&text, haproxyConfig, h.socket)
	for _, b := range n.Backends {
		fmt.Fprintf(&text, "    server %s %s:%s check %s\n", b.Name(), b.Address, ServicePort, check)
	}
	file := filepath.Join(s.Folder, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	if err := n.Balancer.Addr("lo", ServiceAddress+"/32"); err != nil {
		return nil, err
	}
	var err error
	if h.Process, err = n.Balancer.Command(ctx, FindProgram("haproxy"), "-db", "-f", file); err != nil {
		return nil, err
	}
	return h, Await(ctx, within, h.Process, func(context.Context) error { return h.Ready() })
}

// Ready returns what is missing until every backend takes its part, or nil.
func (h *HAProxy) Ready() error {
	states, err := h.States()
	if err != nil {
		return err
	}
	for _, b := range h.backends {
		if states[b.Name()] != "UP" { // "UP 2/3" is on its way down
			return fmt.Errorf("HAProxy says that %s is %q", b.Name(), states[b.Name()])
		}
	}
	return nil
}

// States asks for the states of the servers, by name (HAProxy's management guide, section 9.3, "show stat").
func (h *HAProxy) States() (map[string]string, error) {
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show stat "+ServiceName+" 4 -1\n"); err != nil { // 4: servers
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
