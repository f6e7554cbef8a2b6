package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probeCheckInterval is how long a way that was there is believed to be there.
const probeCheckInterval = time.Second

// probeMTU is the smallest that IPv6 allows (RFC 8200, section 5): packets of that size have room for outer
// headers on every way that IPv6 uses.
const probeMTU = 1280

// probeProtocol marks the rules as ours, where `ip rule` shows "proto 81" (see RTPROT_* in the kernel's
// include/uapi/linux/rtnetlink.h: free).
const probeProtocol = 0x51

// probeDevices matches the names of devices for probes. The far ends of their veth pairs have a suffix.
var probeDevices = regexp.MustCompile(`^sluice-[0-9a-f]{4}$`)

// probeDevice is the device that probes leave by, in one network namespace. bpf/probe.c runs where packets
// leave it and sends them elsewhere, so that none ever crosses it. It is a veth because every kernel has
// those; the pin path is its alias, which says whose it is. Safe for concurrent use.
type probeDevice struct {
	path    ProbePath
	pinPath string
	load    func() (*ebpf.Program, error)

	mu      sync.Mutex
	handle  *netlink.Handle          // nil when closed
	index   int                      // 0: not made by this process
	checked map[netip.Addr]time.Time // when packets to it took the device
}

func (d *Dataplane) openProbes() (err error) {
	if d.isPrivate() {
		return nil
	}
	d.probes = &probeDevice{
		path: d.options.ProbePath, pinPath: d.options.PinPath, load: d.loadProbe, checked: make(map[netip.Addr]time.Time),
	}
	if d.probes.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	return nil
}

// loadProbe loads bpf/probe.c with the balancer's maps.
func (d *Dataplane) loadProbe() (*ebpf.Program, error) {
	spec, err := loadProbe()
	if err != nil {
		return nil, err
	}
	d.size(spec)
	if err := spec.Variables[probeVarProbeMark].Set(d.options.ProbePath.Mark); err != nil {
		return nil, err
	}
	var objects struct {
		Probe *ebpf.Program `ebpf:"probe"`
	}
	err = spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		probeMapBackends: d.objects.Backends, probeMapServices: d.objects.Services,
	}})
	if err != nil {
		return nil, fmt.Errorf("loading the program for probes: %w", err)
	}
	return objects.Probe, nil
}

func (p *probeDevice) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handle != nil {
		p.handle.Close()
		p.handle = nil
	}
}

var errProbesClosed = errors.New("the dataplane is closed")

// ensure has marked packets to an address of a service leave by the device.
func (p *probeDevice) ensure(service netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handle == nil {
		return errProbesClosed
	}
	if time.Since(p.checked[service]) < probeCheckInterval {
		return nil
	}
	delete(p.checked, service)
	if p.check(service) != nil {
		if err := p.make(family(service)); err != nil {
			return err
		}
		if err := p.check(service); err != nil {
			return err
		}
	}
	p.checked[service] = time.Now()
	return nil
}

// check asks the kernel where marked packets to an address go.
func (p *probeDevice) check(service netip.Addr) error {
	routes, err := p.handle.RouteGetWithOptions(service.AsSlice(), &netlink.RouteGetOptions{Mark: p.path.Mark})
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("packets with mark %#x have no route: %v", p.path.Mark, err)
	}
	switch route := routes[0]; {
	case p.index != 0 && route.LinkIndex == p.index:
		return nil
	case route.Type == unix.RTN_LOCAL:
		ip := map[int]string{unix.AF_INET: "ip", unix.AF_INET6: "ip -6"}[family(service)]
		return fmt.Errorf("%s is an address of this host, which packets to it never leave: take it off, or have rules come before own addresses (`%s rule add pref 32765 table local; %[2]s rule del pref 0`)",
			service, ip)
	default:
		return fmt.Errorf("another rule takes packets with mark %#x before the one with priority %d (`ip rule` shows them)", p.path.Mark, p.path.Priority)
	}
}

// make makes the device, unless this process has and it is up, and the route and the rule of a family. What an
// earlier process left is made anew. The rule is the last thing: before it is there, nothing has changed for the
// host.
func (p *probeDevice) make(family int) error {
	if link, err := p.handle.LinkByIndex(p.index); err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		p.index = 0
		if err := p.makeDevice(); err != nil {
			return err
		}
	}
	if err := p.makeRoute(family); err != nil {
		return err
	}
	rule, mask := netlink.NewRule(), ^uint32(probeIndex)
	rule.Family, rule.Mark, rule.Mask = family, p.path.Mark, &mask
	rule.Table, rule.Priority, rule.Protocol = int(p.path.Table), int(p.path.Priority), probeProtocol
	if err := p.handle.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making the rule for mark %#x: %w", p.path.Mark, err)
	}
	return nil
}

// makeRoute has the table lead to the device. Nobody else may use the table.
func (p *probeDevice) makeRoute(family int) error {
	bits := map[int]int{unix.AF_INET: 32, unix.AF_INET6: 128}[family]
	route := netlink.Route{
		Family: family, Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
		LinkIndex: p.index, Table: int(p.path.Table), Protocol: probeProtocol, Scope: netlink.SCOPE_LINK,
	}
	there, err := p.handle.RouteListFiltered(family, &route, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("listing the routes of table %d: %w", p.path.Table, err)
	}
	for _, other := range there {
		if other.LinkIndex != p.index {
			return fmt.Errorf("table %d has other routes (`ip route show table %[1]d`): give probe-path another table", p.path.Table)
		}
	}
	if err := p.handle.RouteReplace(&route); err != nil {
		return fmt.Errorf("making a route in table %d: %w", p.path.Table, err)
	}
	return nil
}

func (p *probeDevice) name() string { return fmt.Sprintf("sluice-%04x", p.path.Mark>>16) }

func (p *probeDevice) makeDevice() error {
	if err := removeProbeDevices(p.handle, p.pinPath); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = p.name(), probeMTU
	attrs.GSOMaxSegs = 1 // what is encapsulated is packets, not what the kernel would cut into some
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = p.name()+"-far", probeMTU
	err := p.handle.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		return p.taken()
	}
	if err != nil {
		return fmt.Errorf("making the device %s: %w", p.name(), err)
	}
	near, err1 := p.handle.LinkByName(p.name())
	far, err2 := p.handle.LinkByName(veth.PeerName)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := p.prepare(near, far); err != nil {
		return errors.Join(fmt.Errorf("preparing the device %s: %w", p.name(), err), p.handle.LinkDel(near))
	}
	p.index = near.Attrs().Index
	return nil
}

// taken says whose the device is.
func (p *probeDevice) taken() error {
	owner := "something else"
	if link, err := p.handle.LinkByName(p.name()); err == nil && link.Attrs().Alias != "" {
		owner = "the daemon with the pin path " + link.Attrs().Alias
	}
	return fmt.Errorf("the device %s belongs to %s: give one of them another probe-path, or remove it if nothing uses it any more (`ip link delete %[1]s`)",
		p.name(), owner)
}

// prepare puts the program on the device and sets it up, without addresses and neighbours of its own.
func (p *probeDevice) prepare(near, far netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	if err := p.handle.LinkSetAlias(near, p.pinPath); err != nil {
		return err
	}
	if err := p.attach(near.Attrs().Index); err != nil {
		return err
	}
	for _, link := range []netlink.Link{near, far} {
		err := p.handle.LinkSetIP6AddrGenMode(link, none)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // without IPv6
			return err
		}
		if err := errors.Join(p.handle.LinkSetARPOff(link), p.handle.LinkSetUp(link)); err != nil {
			return err
		}
	}
	return nil
}

// attach has the program see all that leaves the device. It goes with the device.
func (p *probeDevice) attach(index int) error {
	program, err := p.load()
	if err != nil {
		return err
	}
	defer program.Close()
	err = p.handle.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil {
		return fmt.Errorf("adding clsact: %w", err)
	}
	err = p.handle.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: "probe", DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("adding the program: %w", err)
	}
	return nil
}

// addressOn returns an address of a family on an interface, zero when it has none that others can answer to.
func (p *probeDevice) addressOn(name string, family int) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handle == nil {
		return netip.Addr{}, errProbesClosed
	}
	link, err := p.handle.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addresses, err := p.handle.AddrList(link, family)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading the addresses of %s: %w", name, err)
	}
	for _, a := range addresses {
		if address, ok := netip.AddrFromSlice(a.IP); ok && a.Scope == int(netlink.SCOPE_UNIVERSE) {
			return address.Unmap(), nil
		}
	}
	return netip.Addr{}, nil
}

// unloadProbes removes what serves the probes of a pin path from the network namespace of the calling thread.
func unloadProbes(pinPath string) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer handle.Close()
	return removeProbeDevices(handle, pinPath)
}

// removeProbeDevices removes the devices of a pin path with their routes, those that a process which was
// killed has not given to a pin path yet, and the rules that lead to nothing then.
func removeProbeDevices(h *netlink.Handle, pinPath string) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing devices: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		if !probeDevices.MatchString(attrs.Name) || (attrs.Alias != pinPath && attrs.Alias != "") {
			continue
		}
		if err := h.LinkDel(link); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			return fmt.Errorf("removing the device %s: %w", attrs.Name, err)
		}
	}
	return errors.Join(removeDeadRules(h, unix.AF_INET), removeDeadRules(h, unix.AF_INET6))
}

// removeDeadRules removes those of our rules that lead to a table without routes. Those of a dataplane that
// lives lead to its route.
func removeDeadRules(h *netlink.Handle, family int) error {
	rules, err := h.RuleList(family)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // without IPv6
	}
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	for _, rule := range rules {
		if rule.Protocol != probeProtocol {
			continue
		}
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: rule.Table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("listing the routes of table %d: %w", rule.Table, err)
		}
		if len(routes) > 0 {
			continue
		}
		if err := h.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing %s: %w", strings.TrimSpace(rule.String()), err)
		}
	}
	return nil
}
