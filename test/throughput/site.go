package throughput

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

const (
	backendCount = 4
	// readyWithin is how long everything may take to come up.
	readyWithin = time.Minute
	// restFor is how long the machine is watched with everything up, but without requests.
	restFor = time.Second
)

// labPrefix begins the names of what the benchmark makes outside its namespaces.
const labPrefix = "sluice-http"

// Traces returns patterns for the files that a run of the process with the number pid has, and none after it.
func Traces(pid int) []string { return stage.Traces(labPrefix, pid) }

// site is what one contender is measured in once: hosts of its own, so that nothing is left of the one before.
type site struct {
	*stage.Stage
	network    *stage.Network
	executable string
	target     string  // what the client asks
	rest       float64 // part of all processors, 0..1, that is busy without requests
}

// newSite builds everything up.
func newSite(ctx context.Context, o Options, c Contender) (_ *site, err error) {
	s := &site{executable: o.Executable, target: stage.Target}
	if s.Stage, err = stage.New(labPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.network, err = s.Network(backendCount); err != nil {
		return nil, err
	}
	// One client is to have the ports of many: none is used again that a server still remembers (TIME_WAIT).
	if err := s.network.Client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"); err != nil {
		return nil, err
	}
	for _, b := range s.network.Backends {
		if err := s.Receive(b.Host, c.mode()); err != nil {
			return nil, err
		}
		if _, err := b.Command(ctx, o.Executable, ServerCommand); err != nil {
			return nil, err
		}
	}
	if o.Threaded {
		if err := s.receiveInThreads(ctx); err != nil {
			return nil, err
		}
	}
	s.Mode = o.XDPMode
	if err := s.start(ctx, c); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c, err)
	}
	if err := s.answers(ctx); err != nil {
		return nil, err
	}
	idle, err := observe(ctx, restFor)
	s.rest = idle.CPU / idle.Seconds / float64(runtime.NumCPU())
	return s, err
}

// receiveInThreads makes NAPI of the balancer's interfaces threaded (the kernel's Documentation/networking/napi.rst).
func (s *site) receiveInThreads(ctx context.Context) error {
	var script strings.Builder
	script.WriteString("mount -t sysfs sysfs /sys") // what is mounted shows the interfaces of the namespace that mounted it
	for _, name := range strings.Split(stage.Interfaces, ",") {
		fmt.Fprintf(&script, " && echo 1 > /sys/class/net/%s/threaded", name)
	}
	shell, err := s.network.Balancer.Command(ctx, "unshare", "--mount", "sh", "-c", script.String())
	if err != nil {
		return err
	}
	return succeeded(shell)
}

// start brings the contender up.
func (s *site) start(ctx context.Context, c Contender) error {
	switch c {
	case Forwarding:
		s.target = s.network.Backends[0].Address + ":" + stage.ServicePort
		return s.network.Client.Route(stage.BackendNet, stage.ClientGateway)
	case NFTables:
		return s.startNFTables(ctx)
	case HAProxy:
		_, err := s.StartHAProxy(ctx, s.network, "", readyWithin)
		return err
	default:
		return s.startSluice(ctx, c.mode())
	}
}

// rules send new connections to the backends by turns; conntrack does the rest.
const rules = `table ip sluice-bench {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr ` + stage.ServiceAddress + ` tcp dport ` + stage.ServicePort + ` dnat to numgen inc mod %d map { %s }
	}
}
`

func (s *site) startNFTables(ctx context.Context) error {
	var turns []string
	for i, b := range s.network.Backends {
		turns = append(turns, fmt.Sprintf("%d : %s", i, b.Address))
	}
	file := filepath.Join(s.Folder, "nftables")
	if err := os.WriteFile(file, fmt.Appendf(nil, rules, len(turns), strings.Join(turns, ", ")), 0o600); err != nil {
		return err
	}
	nft, err := s.network.Balancer.Command(ctx, stage.FindProgram("nft"), "-f", file)
	if err != nil {
		return err
	}
	return succeeded(nft)
}

// startSluice starts the daemon as it is by default but for the mode.
func (s *site) startSluice(ctx context.Context, mode dataplane.Mode) error {
	s.Limits = dataplane.DefaultLimits
	if err := s.StartDaemon(ctx, s.network.Balancer, s.executable, stage.Interfaces); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "services:\n- name: %s\n  address: %s\n  mode: %s\n  backends:\n", stage.ServiceName, stage.Target, mode)
	for _, b := range s.network.Backends {
		fmt.Fprintf(&text, "  - {name: %s, address: %s}\n", b.Name(), b.Address)
	}
	m, err := control.ParseManifest("the manifest of the mode "+mode.String(), []byte(text.String()))
	if err != nil {
		return err
	}
	return s.Apply(ctx, m.Services, readyWithin, stage.Unequal)
}

// answers waits until a request is answered.
func (s *site) answers(ctx context.Context) error {
	return stage.Await(ctx, readyWithin, s.Daemon, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := s.network.Client.DialContext(ctx, "tcp", s.target)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// measure has a client make the requests of a workload.
func (s *site) measure(ctx context.Context, w Workload, duration time.Duration) (Sample, error) {
	client, err := s.network.Client.Command(ctx, s.executable, ClientCommand, string(w), s.target, duration.String())
	if err != nil {
		return Sample{}, err
	}
	if err := succeeded(client); err != nil {
		return Sample{}, stage.CauseOf(ctx, err)
	}
	var sample Sample
	if err := json.Unmarshal([]byte(client.Output()), &sample); err != nil {
		return Sample{}, fmt.Errorf("the client says %q: %w", client.Output(), err)
	}
	return sample, nil
}

// succeeded waits for a process that is to end by itself.
func succeeded(p *lab.Process) error {
	if p.Wait() != nil {
		return stage.Ended(p)
	}
	return nil
}
