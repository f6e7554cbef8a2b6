package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// patient is what is examined.
type patient struct {
	Options
	ctx     context.Context
	status  *control.Status // nil when no daemon answers
	silence error           // why no daemon answers
	pid     int             // of the daemon, 0 when it is not known
	paths   []path          // to the backends, probed once for several checks
}

func newPatient(ctx context.Context, o Options) (*patient, error) {
	p := &patient{Options: o, ctx: ctx}
	client := control.NewClient(o.Socket)
	status, err := client.Status(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		p.silence = err
		return p, nil
	}
	p.status, p.pid = &status, listener(o.Socket)
	if o.Service == "" {
		return p, nil
	}
	s, err := client.Service(ctx, o.Service)
	p.status.Services = slices.DeleteFunc(p.status.Services, func(other control.ServiceStatus) bool { return other.Name != s.Name })
	return p, err
}

// listener returns the number of the process that listens on a Unix socket, 0 when the kernel does not tell.
func listener(socket string) (pid int) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // fails only for a closed connection
		if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(credentials.Pid)
		}
	})
	return pid
}

// interfaces names those that the balancer is or should be attached to.
func (p *patient) interfaces() ([]string, error) {
	var names []string
	if p.Config != nil {
		names = slices.Clone(p.Config.Interfaces)
	}
	if p.status != nil {
		for _, i := range p.status.Interfaces {
			if !slices.Contains(names, i.Name) {
				names = append(names, i.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil, errNoInterface
	}
	return names, nil
}

// links returns the interfaces that are there, of those that the balancer is or should be attached to.
func (p *patient) links() ([]netlink.Link, error) {
	names, err := p.interfaces()
	var links []netlink.Link
	for _, name := range names {
		if link, err := netlink.LinkByName(name); err == nil {
			links = append(links, link)
		}
	}
	return links, err
}

// place is a backend of a service.
type place struct {
	service *control.ServiceStatus
	backend *control.BackendStatus
}

// asWished is the daemon's cause of a state that the user asked for.
const asWished = "as wished"

// places lists the backends that should get packets: all but those that the user took out.
func (p *patient) places() []place {
	var places []place
	for i := range p.status.Services {
		s := &p.status.Services[i]
		for j := range s.Backends {
			if b := &s.Backends[j]; b.State != control.StateDown || b.Cause != asWished {
				places = append(places, place{s, b})
			}
		}
	}
	return places
}

func (p place) String() string {
	return fmt.Sprintf("service %s, backend %s", p.service.Name, p.backend.Name)
}

// direct says whether the backend answers clients by itself.
func (p place) direct() bool { return p.service.Mode != dataplane.ModeNAT }

// overhead is what the mode adds to every packet, in bytes.
func (p place) overhead() int {
	ip, gue := 20, 0
	if p.backend.Address.Is6() {
		ip = 40
	}
	switch p.service.Mode {
	case dataplane.ModeIPIP:
	case dataplane.ModeGUE:
		gue = 8 + 4 // UDP and GUE
	default:
		return 0
	}
	return ip + gue
}
