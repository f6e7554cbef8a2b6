package doctor_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/control/doctor"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
)

// bad says whether a finding is one that a healthy site must not have.
func bad(f doctor.Finding) bool { return f.Severity == doctor.Warning || f.Severity == doctor.Error }

// A healthy site gives no warning, and everything is checked.
func TestHealthy(t *testing.T) {
	s := newSite(t, settings{})
	report, code := s.examine(t)
	wantHealth(t, report, code)
	for _, f := range report.Findings {
		if strings.HasPrefix(f.Problem, "not checked") {
			t.Errorf("%+v", f)
		}
	}
}

func wantHealth(t *testing.T, report doctor.Report, code int) {
	t.Helper()
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	for _, f := range report.Findings {
		if bad(f) {
			t.Errorf("%+v", f)
		}
	}
}

// Each misconfiguration is made, and found; nothing else is. Where the finding's command can be run as it is,
// it is, and there is no such finding afterwards.
func TestMisconfigurations(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings settings
		make     func(*testing.T, *site)
		check    string
		severity doctor.Severity
		object   string
		problem  string   // a part
		also     []string // other checks that find a consequence
		mends    bool     // by the command
	}{
		{
			name: "interface down", make: linkDown("clients"),
			check: "interface", severity: doctor.Error, object: "interface clients", problem: "it is down", mends: true,
		},
		{
			name:  "no carrier",
			make:  func(t *testing.T, s *site) { must(t, s.client.LinkDown("eth0")) },
			check: "interface", severity: doctor.Error, object: "interface clients", problem: "no carrier",
		},
		{
			name: "interface gone",
			make: func(t *testing.T, s *site) {
				must(t, change(s.balancer, "clients", s.balancer.Netlink().LinkDel))
			},
			check: "interface", severity: doctor.Error, object: "interface clients", problem: "no such interface",
			also: []string{"xdp-transmit"},
		},
		{
			name: "generic XDP", settings: settings{config: "xdp-mode: generic"},
			check: "xdp-mode", severity: doctor.Warning, object: "interface servers", problem: "the driver has native XDP",
			also: []string{"offload"},
		},
		{
			name: "GRO before generic XDP", settings: settings{config: "xdp-mode: generic"},
			check: "offload", severity: doctor.Warning, object: "interface servers", problem: "GRO joins packets",
			also: []string{"xdp-mode"}, mends: true,
		},
		{
			name:  "veth that takes no frames from XDP",
			make:  func(t *testing.T, s *site) { run(t, s.client, "ethtool", "-K", "eth0", "gro", "off") },
			check: "xdp-transmit", severity: doctor.Error, object: "interface clients", problem: "neither GRO nor an XDP program",
		},
		{
			name: "few files", settings: settings{prefix: []string{"prlimit", "--nofile=200:200"}},
			check: "limits", severity: doctor.Warning, object: "daemon", problem: "it may open 200 files",
		},
		{
			name: "strict rp_filter", make: sysctl("net.ipv4.conf.servers.rp_filter", "1"),
			check: "rp_filter", severity: doctor.Warning, object: "interface servers", problem: "rp_filter is strict", mends: true,
		},
		{
			name: "strict rp_filter of all", make: sysctl("net.ipv4.conf.all.rp_filter", "1"),
			check: "rp_filter", severity: doctor.Warning, object: "interface servers", problem: "rp_filter is strict", mends: true,
		},
		{
			name:  "an address of the balancer's own",
			make:  ownAddress(vipL2, "/32"),
			check: "own-address", severity: doctor.Warning, object: "address " + vipL2 + ", interface servers", problem: "probes of it do not leave", mends: true,
		},
		{
			name:  "an IPv6 address of the balancer's own",
			make:  ownAddress(vip6, "/128"),
			check: "own-address", severity: doctor.Warning, object: "address " + vip6 + ", interface servers", problem: "probes of it do not leave", mends: true,
		},
		{
			name: "no forwarding", make: sysctl("net.ipv4.ip_forward", "0"),
			check: "ip_forward", severity: doctor.Info, object: "net.ipv4.ip_forward", problem: "forwarding is off", mends: true,
		},
		{
			name: "nat's ports are the host's too", settings: settings{config: "nat: {ports: 40000-50000}"},
			check: "nat-ports", severity: doctor.Warning, object: "nat.ports 40000-50000", problem: "the host's own connections", mends: true,
		},
		{
			name: "no backends",
			make: func(t *testing.T, s *site) {
				s.apply(t, control.Service{Name: "empty", Address: netip.MustParseAddr(vipNAT), Port: port})
			},
			check: "service", severity: doctor.Error, object: "service empty", problem: "it has no backends",
		},
		{
			name: "a server of the balancer's own",
			make: func(t *testing.T, s *site) {
				must(t, s.balancer.Addr("lo", vipNAT+"/32"))
				listen(t, s.balancer, "[::]:80")
			},
			check: "local-listener", severity: doctor.Warning, object: "service nat", problem: "a server that listens on",
		},
		{
			name: "backend that is not there", make: addBackend("l2", "198.51.100.99"),
			check: "next-hop", severity: doctor.Error, object: "service l2, backend 198.51.100.99", problem: "no answer to ARP",
		},
		{
			name: "no route to backend", make: addBackend("l2", "203.0.114.1"),
			check: "next-hop", severity: doctor.Error, object: "service l2, backend 203.0.114.1", problem: "no route to",
		},
		{
			name: "l2 across a router",
			make: func(t *testing.T, s *site) {
				must(t, s.balancer.Route("203.0.114.0/24", backend(1)))
				must(t, s.backends[1].Addr("lo", "203.0.114.1/32"))
				addBackend("l2", "203.0.114.1")(t, s)
			},
			check: "next-hop", severity: doctor.Error, object: "service l2, backend 203.0.114.1", problem: "behind the router",
		},
		{
			name: "no room for the outer header", make: servers(1500),
			check: "mtu", severity: doctor.Warning, object: "service ipip, backend backend0", problem: "1500 bytes from clients and 20 of ipip", mends: true,
		},
		{
			name: "no room for the outer header, IPv6", make: servers(1530),
			check: "mtu", severity: doctor.Warning, object: "service four-in-six, backend backend1", problem: "1500 bytes from clients and 40 of ipip", mends: true,
		},
		{
			name: "a route that is too narrow",
			make: func(t *testing.T, s *site) {
				run(t, s.balancer, "ip", "route", "change", "198.51.100.0/24", "dev", "servers", "mtu", "1400")
				s.awaitMTU(t, 1400)
			},
			check: "mtu", severity: doctor.Warning, object: "service ipip, backend backend0", problem: "through the 1400 bytes", mends: true,
		},
		{
			name: "a narrow link beyond the first",
			make: func(t *testing.T, s *site) {
				h := s.backends[0]
				must(t, change(h, "eth0", func(l netlink.Link) error { return h.Netlink().LinkSetMTU(l, 1500) }))
			},
			check: "mtu", severity: doctor.Warning, object: "service ipip, backend backend0", problem: "packets of 1520 bytes do not",
		},
		{
			name:  "a backend that does not decapsulate",
			make:  func(t *testing.T, s *site) { s.decap(t, 0, "detach") },
			check: "tunnel", severity: doctor.Error, object: "service ipip, backend backend0", problem: "protocol unreachable",
		},
		{
			name:  "a backend that does not decapsulate, IPv6",
			make:  func(t *testing.T, s *site) { s.decap(t, 0, "detach") },
			check: "tunnel", severity: doctor.Error, object: "service four-in-six, backend backend0", problem: "protocol unreachable",
		},
		{
			name: "no room for the outer headers of gue",
			make: func(t *testing.T, s *site) {
				addGUE(t, s, backend6)
				servers(1500)(t, s)
			},
			check: "mtu", severity: doctor.Warning, object: "service gue, backend backend1", problem: "1500 bytes from clients and 52 of gue", mends: true,
		},
		{
			name: "a backend that does not decapsulate gue",
			make: func(t *testing.T, s *site) {
				addGUE(t, s, backend)
				s.decap(t, 0, "detach")
			},
			check: "tunnel", severity: doctor.Error, object: "service gue, backend backend0", problem: "port unreachable",
		},
		{
			name: "a backend that does not decapsulate gue, IPv6",
			make: func(t *testing.T, s *site) {
				addGUE(t, s, backend6)
				s.decap(t, 0, "detach")
			},
			check: "tunnel", severity: doctor.Error, object: "service gue, backend backend0", problem: "port unreachable",
		},
		{
			name: "no service address, gue",
			make: func(t *testing.T, s *site) {
				addGUE(t, s, backend)
				noAddress(vipGUE+"/32")(t, s)
			},
			check: "vip", severity: doctor.Error, object: "service gue, backend backend0", problem: "no answer for " + vipGUE, mends: true,
		},
		{
			name: "a backend that swallows what is encapsulated",
			make: func(t *testing.T, s *site) {
				s.decap(t, 0, "detach")
				swallow(t, s.backends[0])
			},
			check: "tunnel", severity: doctor.Error, object: "service ipip, backend backend0", problem: "not inside ipip packets",
		},
		{
			name: "no service address, l2", make: noAddress(vipL2 + "/32"),
			check: "vip", severity: doctor.Error, object: "service l2, backend backend0", problem: "no answer for " + vipL2, mends: true,
		},
		{
			name: "no service address, ipip", make: noAddress(vipIPIP + "/32"),
			check: "vip", severity: doctor.Error, object: "service ipip, backend backend0", problem: "no answer for " + vipIPIP, mends: true,
		},
		{
			name: "no service address, IPv6", make: noAddress(vip6 + "/128"),
			check: "vip", severity: doctor.Error, object: "service six, backend backend0", problem: "no answer for " + vip6, mends: true,
		},
		{
			name: "no service address, IPv6 in IPv4", make: noAddress(vip6In4 + "/128"),
			check: "vip", severity: doctor.Error, object: "service six-in-four, backend backend0", problem: "does not decapsulate, or does not have that address",
		},
		{
			name: "no service address, UDP",
			make: func(t *testing.T, s *site) {
				noAddress(vipL2+"/32")(t, s)
				udp := services()[1]
				udp.Protocol = dataplane.ProtocolUDP
				s.apply(t, udp)
			},
			check: "vip", severity: doctor.Warning, object: "service l2, backend backend0", problem: "no answer for " + vipL2, mends: true,
		},
		{
			name: "no server",
			make: func(t *testing.T, s *site) {
				l2 := services()[1]
				l2.Port = 81
				s.apply(t, l2)
			},
			check: "vip", severity: doctor.Error, object: "service l2, backend backend1", problem: "no server listens on " + vipL2 + ":81",
		},
		{
			name: "a silent backend",
			make: func(t *testing.T, s *site) {
				s.apply(t, services()[1])
				run(t, s.backends[0], "ip", "route", "add", "blackhole", "198.51.100.1/32")
			},
			check: "vip", severity: doctor.Error, object: "service l2, backend backend0", problem: "neither for the service's address nor for its own",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, test.settings)
			if test.make != nil {
				test.make(t, s)
			}
			report, code := s.examine(t)
			found := func(f doctor.Finding) bool {
				return f.Check == test.check && f.Severity == test.severity && f.Object == test.object && strings.Contains(f.Problem, test.problem)
			}
			var finding *doctor.Finding
			for _, f := range report.Findings {
				expected := f.Check == test.check
				for _, also := range test.also {
					expected = expected || f.Check == also
				}
				if found(f) {
					finding = &f
				} else if bad(f) && !expected {
					t.Errorf("also found: %+v", f)
				}
			}
			if finding == nil {
				t.Fatalf("not found in %+v", report.Findings)
			}
			want := map[doctor.Severity]int{doctor.Error: 1, doctor.Warning: 7, doctor.Info: 0}[report.Worst()]
			if code != want || finding.Command == "" {
				t.Errorf("exit code %d, want %d; command %q", code, want, finding.Command)
			}
			if !test.mends {
				return
			}
			s.mend(t, *finding)
			eventually(t, "a cure by "+finding.Command, func() bool {
				report, _ := s.examine(t)
				for _, f := range report.Findings {
					if found(f) {
						return false
					}
				}
				return true
			})
		})
	}
}

// mend runs a finding's command where it belongs.
func (s *site) mend(t *testing.T, f doctor.Finding) {
	t.Helper()
	where := s.balancer
	for n := range s.backends {
		if f.On == backend(n) || f.On == backend6(n) {
			where = s.backends[n]
		}
	}
	run(t, where, "sh", "-c", f.Command)
}

// Without a daemon the host is looked at all the same.
func TestWithoutDaemon(t *testing.T) {
	s := newSite(t, settings{})
	s.daemon.Kill()
	_ = s.daemon.Wait()
	must(t, s.balancer.LinkDown("clients"))
	report, code := s.examine(t)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	want := map[string]string{
		"daemon": "no daemon answers", "interface": "it is down", "kernel": "", "bpffs": "",
		"vip": "not checked: no daemon answers", "mtu": "not checked: no daemon answers",
	}
	for _, f := range report.Findings {
		if part, ok := want[f.Check]; ok && strings.Contains(f.Problem, part) {
			delete(want, f.Check)
		}
	}
	if len(want) != 0 {
		t.Errorf("nothing of %v in %+v", want, report.Findings)
	}
}

// In another network namespace than the daemon's everything would be wrong.
func TestOtherNamespace(t *testing.T) {
	s := newSite(t, settings{})
	report, _ := examine(t, s.client, binary, "doctor", "-o", "json", "--socket", s.socket)
	wantFinding(t, report, "namespace", "another network namespace")
}

// Without a BPF file system nothing is pinned. Unmounted for this command alone.
func TestNoBPFFileSystem(t *testing.T) {
	s := newSite(t, settings{})
	report, _ := examine(t, s.balancer, "unshare", "-m", "sh", "-c",
		fmt.Sprintf("while umount /sys/fs/bpf 2>/dev/null; do :; done; exec %s doctor -o json --config %s", binary, s.config))
	wantFinding(t, report, "bpffs", "no BPF file system")
}

// Without root's rights nothing is taken for healthy that was not looked at.
func TestWithoutRights(t *testing.T) {
	s := newSite(t, settings{})
	report, code := examine(t, s.balancer, "setpriv", "--bounding-set", "-all", binary, "doctor", "-o", "json", "--config", s.config)
	if code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	wantFinding(t, report, "kernel", "not checked")
	wantFinding(t, report, "vip", "not checked")
}

// A single service is looked at alone.
func TestOneService(t *testing.T) {
	s := newSite(t, settings{})
	noAddress(vipL2+"/32")(t, s)
	report, code := s.examine(t, "--service", "ipip")
	wantHealth(t, report, code)
	report, _ = s.examine(t, "--service", vipL2)
	wantFinding(t, report, "vip", "no answer for "+vipL2)
}

func wantFinding(t *testing.T, report doctor.Report, check, problem string) {
	t.Helper()
	for _, f := range report.Findings {
		if f.Check == check && bad(f) && strings.Contains(f.Problem, problem) {
			return
		}
	}
	t.Errorf("%s: nothing of %q in %+v", check, problem, report.Findings)
}

// A probed server sees no connection.
func TestProbesStayIncomplete(t *testing.T) {
	s := newSite(t, settings{})
	listener, err := s.backends[0].Listen("tcp", vipL2+":81")
	must(t, err)
	defer listener.Close()
	l2 := services()[1]
	l2.Port, l2.Backends = 81, l2.Backends[:1]
	s.apply(t, l2)
	report, code := s.examine(t)
	wantHealth(t, report, code)
	must(t, listener.(*net.TCPListener).SetDeadline(time.Now()))
	if conn, err := listener.Accept(); err == nil {
		t.Errorf("a connection from %s", conn.RemoteAddr())
	}
}

func linkDown(name string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) { must(t, s.balancer.LinkDown(name)) }
}

// ownAddress gives the balancer an address. The kernel makes the route for one of IPv6 in the background.
func ownAddress(address, bits string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		must(t, s.balancer.Addr("lo", address+bits))
		eventually(t, "a route to "+address, func() bool {
			routes, err := s.balancer.Netlink().RouteGet(net.ParseIP(address))
			return err == nil && routes[0].Type == unix.RTN_LOCAL
		})
	}
}

func sysctl(key, value string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) { must(t, s.balancer.Sysctl(key, value)) }
}

// addBackend gives a service another backend.
func addBackend(service, address string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		_, err := s.api.AddBackend(t.Context(), service, control.Backend{Address: netip.MustParseAddr(address)})
		must(t, err)
		s.await(t, "its next hop", func(b control.BackendStatus) bool { return b.NextHop.Resolved || b.NextHop.Reason != "" })
	}
}

// servers changes the MTU towards the backends.
func servers(mtu int) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		must(t, change(s.balancer, "servers", func(l netlink.Link) error { return s.balancer.Netlink().LinkSetMTU(l, mtu) }))
		s.awaitMTU(t, mtu)
	}
}

// awaitMTU waits until the daemon knows the MTU towards IPv4 backends.
func (s *site) awaitMTU(t *testing.T, mtu int) {
	t.Helper()
	s.await(t, "the MTU", func(b control.BackendStatus) bool { return b.Address.Is6() || b.NextHop.MTU == mtu })
}

// noAddress takes a service's address from backend0.
func noAddress(prefix string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		address, err := netlink.ParseAddr(prefix)
		must(t, err)
		h := s.backends[0]
		must(t, change(h, "lo", func(l netlink.Link) error { return h.Netlink().AddrDel(l, address) }))
	}
}

// addGUE adds a service of mode gue.
func addGUE(t *testing.T, s *site, address func(int) string) {
	t.Helper()
	service := control.Service{
		Name: "gue", Address: netip.MustParseAddr(vipGUE), Port: port, Mode: new(dataplane.ModeGUE), Probe: &control.Probe{Type: control.ProbeNone},
	}
	for n, b := range s.backends {
		must(t, b.Addr("lo", vipGUE+"/32"))
		service.Backends = append(service.Backends, control.Backend{Name: fmt.Sprintf("backend%d", n), Address: netip.MustParseAddr(address(n))})
	}
	s.apply(t, append(services(), service)...)
}

// swallow has a host take ipip packets without a word.
func swallow(t *testing.T, h *lab.Host) {
	t.Helper()
	must(t, h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IPIP)
		if err == nil {
			t.Cleanup(func() { unix.Close(fd) })
		}
		return err
	}))
}

// change finds an interface of a host and changes it.
func change(h *lab.Host, name string, f func(netlink.Link) error) error {
	link, err := h.Netlink().LinkByName(name)
	if err != nil {
		return err
	}
	return f(link)
}
