// Package dataplane owns everything of Sluice that lives in the kernel: the XDP programs, their maps, the
// links to interfaces, and the next hops of backends. It does what it is told and decides nothing; who
// decides is in the packages below brain, who tells is package control.
package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/sluicelb/sluice/dataplane/maglev"
	"github.com/sluicelb/sluice/dataplane/nexthop"
)

var (
	// ErrFull means that one of the Limits is reached; the message says which.
	ErrFull = errors.New("limit reached")
	// ErrIncompatible means that what is pinned was made with other limits or by another version.
	ErrIncompatible = errors.New("incompatible with what is pinned")
	// ErrUnresolved means that packets for a backend cannot leave this host.
	ErrUnresolved = errors.New("no next hop")
	// ErrInvalid means that a service contradicts itself; nothing was changed.
	ErrInvalid = errors.New("invalid service")
)

// Options of Open. The zero value opens a private dataplane.
type Options struct {
	// PinPath is a folder in a BPF file system, created when absent. Without one the dataplane is private: it
	// ends with the process, is for Trace only, and has the next hops that SetNextHop gives it.
	PinPath  string
	Limits   Limits    // zero fields: DefaultLimits
	NATPorts PortRange // zero: the longer part of 1024-65535 outside net.ipv4.ip_local_port_range
	HashSeed uint32    // equal on all hosts that share services
	Share    bool      // interfaces with XDP programs of other tools, after libxdp's protocol
	Priority uint32    // among those that share an interface: the lowest runs first
	Logger   *slog.Logger

	// IdleTimeout is how long a connection may be silent and still keep its backend through a change of the tables
	// where not all flows are remembered, 1 s to 9 h; 0 is 15 minutes.
	IdleTimeout time.Duration

	ProbePath ProbePath // zero fields: DefaultProbePath
}

// Dataplane is the kernel's side of one network namespace. Safe for concurrent use.
type Dataplane struct {
	options  Options
	log      *slog.Logger
	resolver resolver
	grace    *grace
	names    []string // of enum reason

	probes *probeDevice // nil in a private dataplane

	sweeping  sync.Mutex // before mu
	mu        sync.Mutex
	objects   liveObjects
	balancer  balancerForms
	running   balancerForms // on the interfaces: balancer, or while a capture runs that of the capture
	services  mapped[balancerService]
	slots     *slots
	olders    mapped[balancerOlder]
	backends  mapped[balancerBackend]
	loads     mapped[balancerLoad]
	links     map[int]*attachment // by the interface's index
	sampling  mapped[balancerSampling]
	state     map[ServiceKey]*serviceState
	byIndex   map[uint32]*serviceState // the same
	hops      map[netip.Addr]*hopUsers
	opened    map[int]bool // interfaces that packets may leave by, and some record says that they do
	freeIndex struct{ services, backends *indices }
	regions   *regions
	builder   maglev.Builder
	scratch   []uint32
	kept      kept
	capturing bool
	first     bool // nothing was pinned before
	signals   bool // somebody reads them
	stats     Stats

	tracing sync.Mutex // held during a trace, before mu

	retired    []*retired
	retirement chan struct{}
	stop       chan struct{}
	stopped    sync.WaitGroup
	closing    sync.Once
}

// liveObjects are what the balancer consists of.
type liveObjects struct {
	balancerMaps
	Balancer *ebpf.Program `ebpf:"balancer"`
}

// Close lets go of all of them.
func (o *liveObjects) Close() error { return errors.Join(o.balancerMaps.Close(), o.Balancer.Close()) }

// resolver follows next hops.
type resolver interface {
	Watch(netip.Addr) *nexthop.Hop
	WatchLater(netip.Addr) *nexthop.Hop
	Unwatch(netip.Addr)
	Close()
}

// Open loads the programs and maps, or adopts those that are pinned under the path, in the network
// namespace of the calling thread. Packets of adopted services go on undisturbed.
//
// Returns ErrIncompatible when what is pinned cannot be adopted.
func Open(options Options) (*Dataplane, error) {
	d := &Dataplane{
		options:    options,
		log:        cmp.Or(options.Logger, slog.Default()),
		links:      make(map[int]*attachment),
		state:      make(map[ServiceKey]*serviceState),
		byIndex:    make(map[uint32]*serviceState),
		hops:       make(map[netip.Addr]*hopUsers),
		opened:     make(map[int]bool),
		retirement: make(chan struct{}, 1),
		stop:       make(chan struct{}),
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dataplane) open() (err error) {
	d.options.Limits = d.options.Limits.withDefaults()
	d.options.IdleTimeout = cmp.Or(d.options.IdleTimeout, defaultIdle)
	if d.options.NATPorts == (PortRange{}) {
		if d.options.NATPorts, err = freePorts(); err != nil {
			return err
		}
	}
	if err := d.options.ProbePath.Check(); err != nil {
		return fmt.Errorf("the path of probes: %w", err)
	}
	d.options.ProbePath = d.options.ProbePath.withDefaults()
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	if !d.isPrivate() {
		if err := preparePinPath(d.options.PinPath); err != nil {
			return err
		}
		d.first = !isPinnedTo(d.options.PinPath)
	}
	if err := d.load(); err != nil {
		return err
	}
	if d.grace, err = newGrace(); err != nil {
		return err
	}
	if err := d.openResolver(); err != nil {
		return err
	}
	if err := d.openProbes(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.adopt(); err != nil {
		return err
	}
	d.stopped.Go(d.reclaimInBackground)
	if !d.isPrivate() {
		d.stopped.Go(d.sweepInBackground)
	}
	return nil
}

func (d *Dataplane) openResolver() error {
	if d.isPrivate() {
		d.resolver = noResolver{}
		return nil
	}
	r, err := nexthop.NewResolver(d.log, d.hopChanged)
	if err != nil {
		return err
	}
	d.resolver = r
	return nil
}

// load creates or opens the maps, loads the program, and maps the arrays that user space writes.
func (d *Dataplane) load() error {
	spec, err := loadBalancer()
	if err != nil {
		return err
	}
	if d.names, err = reasonNames(spec); err != nil {
		return err
	}
	if spec, err = d.spec(nil); err != nil {
		return err
	}
	for name, m := range spec.Maps {
		if isPinned(name) && !d.isPrivate() {
			m.Pinning = ebpf.PinByName
		}
	}
	var objects any = &d.objects
	if d.isPrivate() {
		objects = &d.objects.balancerMaps // each trace loads a program of its own
	}
	err = spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.options.PinPath}})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("%w in %s: restore the limits they were made with, or remove them with `sluice unload`: %w",
			ErrIncompatible, d.options.PinPath, err)
	}
	if err != nil {
		return fmt.Errorf("loading the balancer: %w", err)
	}
	d.balancer.alone = d.objects.Balancer
	if d.options.Share {
		d.balancer.shared, err = loadShared(spec, "balancer", d.liveMaps())
		if err != nil {
			return err
		}
	}
	d.running = d.balancer
	if d.services, err = mapArray[balancerService](d.objects.Services); err != nil {
		return err
	}
	if d.slots, err = newSlots(d.objects.Slots, &d.mu); err != nil {
		return err
	}
	if d.olders, err = mapArray[balancerOlder](d.objects.Olders); err != nil {
		return err
	}
	if d.loads, err = mapArray[balancerLoad](d.objects.Loads); err != nil {
		return err
	}
	if d.backends, err = mapArray[balancerBackend](d.objects.Backends); err != nil {
		return err
	}
	d.sampling, err = mapArray[balancerSampling](d.objects.Sampling)
	return err
}

// spec describes the programs and the maps, with the sizes and constants that the options ask for, and
// others. d.mu need not be held.
func (d *Dataplane) spec(constants map[string]any) (*ebpf.CollectionSpec, error) {
	spec, err := loadBalancer()
	if err != nil {
		return nil, err
	}
	d.size(spec)
	all := map[string]any{
		"nat_port_first": d.options.NATPorts.First,
		"nat_port_last":  d.options.NATPorts.Last,
		"hash_keys":      hashKeys(d.options.HashSeed),
	}
	maps.Copy(all, constants)
	for name, value := range all {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return spec, nil
}

// transient maps hold nothing that another process could go on with.
var transient = []string{
	"events", "scratch", "claims4", "claims6", "awaited", "handshakes4", "handshakes6", "notes", "sampling", "signals",
}

// isPinned tells the maps that outlive the process from those that belong to one program.
func isPinned(name string) bool { return name[0] != '.' && !slices.Contains(transient, name) }

// size sets the sizes of the maps.
func (d *Dataplane) size(spec *ebpf.CollectionSpec) {
	limits := d.options.Limits
	for name, size := range map[string]uint32{
		"services4": 2 * limits.Services, // each with an entry for its address, see echo.go
		"services6": 2 * limits.Services,
		"services":  limits.Services,
		"slots":     limits.Slots,
		"olders":    limits.Services,
		"backends":  limits.Backends + 1, // index 0 is none
		"loads":     limits.Backends + 1,
		"counters":  limits.Backends + 1,
		"flows4":    limits.Flows,
		"flows6":    limits.Flows,
		"replies4":  limits.Flows,
		"replies6":  limits.Flows,
		"reasons":   uint32(len(d.names)),
		"devices":   maxDevices,
		"servers":   limits.Backends,
		"sources4":  maxRules,
		"sources6":  maxRules,

		// Both are forgotten soon, or no great loss.
		"fragments4": max(limits.Flows/8, 1024),
		"fragments6": max(limits.Flows/8, 1024),
		"buckets":    max(limits.Flows/8, 1024),

		"handshakes4": maxHandshakes,
		"handshakes6": maxHandshakes,
		"signals":     signalBuffer,
	} {
		if m := spec.Maps[name]; m != nil { // those of probes are few
			m.MaxEntries = size
		}
	}
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Services:   cmp.Or(l.Services, DefaultLimits.Services),
		Backends:   cmp.Or(l.Backends, DefaultLimits.Backends),
		Slots:      cmp.Or(l.Slots, DefaultLimits.Slots),
		TableSlots: cmp.Or(l.TableSlots, DefaultLimits.TableSlots),
		Flows:      cmp.Or(l.Flows, DefaultLimits.Flows),
	}
}

// Close stops following the network and lets go of the kernel's objects. They stay pinned and attached:
// packets keep flowing as they did at this moment. Only what Open has pinned first, and nothing uses, is
// removed: a first start that fails binds nobody to its limits. Further calls do nothing.
func (d *Dataplane) Close() (err error) {
	d.closing.Do(func() { err = d.close() })
	return err
}

func (d *Dataplane) close() error {
	close(d.stop)
	d.stopped.Wait() // what is retired leaves its next hops
	if d.resolver != nil {
		d.resolver.Close()
	}
	if d.probes != nil {
		d.probes.close()
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.capturing {
		errs = append(errs, d.replacePrograms(d.balancer))
		d.capturing = false
	}
	if d.first && len(d.links) == 0 && len(d.state) == 0 {
		errs = append(errs, unpinMaps(d.options.PinPath))
		_ = os.Remove(d.options.PinPath) // not when there is more in it
	}
	if len(d.sampling.items) > 0 {
		d.sampling.items[0].Every = 0 // nobody listens from now on
	}
	errs = append(errs, d.services.close(), d.slots.close(), d.olders.close(), d.backends.close(), d.loads.close(), d.sampling.close())
	for index := range d.links {
		d.forget(index)
	}
	errs = append(errs, d.balancer.shared.Close()) // of nil too
	if d.grace != nil {
		d.grace.close()
	}
	if d.objects.Flows4 != nil {
		errs = append(errs, d.objects.Close())
	}
	return errors.Join(errs...)
}

// Unload detaches the programs that are pinned under the path and removes what Open and AttachDecap pinned
// there, and the folder, and what ProbeMark made in the network namespace of the calling thread. The neighbours of the
// backends are the kernel's alone from then on. It is no error when nothing is there; what others have pinned there
// stays, with an error.
func Unload(pinPath string) error {
	return errors.Join(unloadProbes(pinPath), unloadPins(pinPath))
}

func unloadPins(pinPath string) error {
	if _, err := os.Stat(pinPath); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !onBPF(pinPath) {
		return fmt.Errorf("%s is not in a BPF file system: nothing of Sluice is there", pinPath)
	}
	return errors.Join(
		unloadShared(pinPath),
		removeLinks(filepath.Join(pinPath, linksFolder)), removeLinks(filepath.Join(pinPath, decapFolder)),
		releaseNeighbours(pinPath), unpinMaps(pinPath), os.Remove(pinPath))
}

// releaseNeighbours leaves the neighbours that the next hops of backends depend on, and that no process follows
// any more, to the kernel: it would not forget them.
func releaseNeighbours(pinPath string) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinPath, "backends"), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Close()
	backends, err := mapArray[balancerBackend](m)
	if err != nil {
		return err
	}
	r, err := nexthop.NewResolver(slog.Default(), func(netip.Addr, *nexthop.Hop) {})
	if err != nil {
		return errors.Join(err, backends.close())
	}
	defer r.Close()
	for i := range backends.items {
		if record := &backends.items[i]; record.Flags&balancerBackendFlagsBACKEND_USED != 0 {
			address := record.endpoint().Addr()
			r.Watch(address)
			r.Unwatch(address)
		}
	}
	return backends.close()
}

// unpinMaps removes the maps that Open has pinned.
func unpinMaps(pinPath string) error {
	spec, err := loadBalancer()
	if err != nil {
		return err
	}
	var errs []error
	for name := range spec.Maps {
		if !isPinned(name) {
			continue
		}
		if err := os.Remove(filepath.Join(pinPath, name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isPinnedTo tells whether the maps of a balancer are pinned there.
func isPinnedTo(pinPath string) bool {
	_, err := os.Stat(filepath.Join(pinPath, identityMap))
	return err == nil
}

// Stats describes the tables.
func (d *Dataplane) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	stats := d.stats
	stats.ServicesUsed, stats.ServicesTotal = len(d.state), int(d.options.Limits.Services)
	stats.BackendsUsed, stats.BackendsTotal = d.freeIndex.backends.used, int(d.options.Limits.Backends)
	stats.SignalEvery, stats.SignalsLost = d.sampled()
	stats.SlotsUsed, stats.SlotsTotal = int(d.regions.used), int(d.options.Limits.Slots)
	return stats
}

// noteRewrite counts one table rewrite.
func (d *Dataplane) noteRewrite(begin time.Time) {
	d.stats.TableRewrites++
	d.stats.LastRewrite = time.Since(begin)
	d.stats.TotalRewrite += d.stats.LastRewrite
}
