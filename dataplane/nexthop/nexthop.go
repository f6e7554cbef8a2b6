// Package nexthop finds and follows where packets for an address leave this host: interface, MAC addresses
// and VLANs, from the kernel's routes and neighbours. It reads netlink and has the kernel look for
// neighbours; it changes nothing else, and knows nothing of BPF.
//
// A route is the one that the kernel has for the address alone: rules that look at marks or source
// addresses do not apply, and of several equal ways it is the one that the kernel picks for this address.
package nexthop

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Hop is where packets for an address leave this host. Addresses with the same way share one, which is not modified.
type Hop struct {
	Resolved  bool             `json:"resolved"`
	Pending   bool             `json:"-"`                // unresolved only because its neighbour has had no time to answer, or nobody looked
	Reason    string           `json:"reason,omitempty"` // why it is unresolved, one phrase
	Interface string           `json:"interface,omitempty"`
	Index     int              `json:"-"`                // of the interface that carries the frames, below any VLAN
	MAC       net.HardwareAddr `json:"-"`                // of the next router or host; not to be modified
	LocalMAC  net.HardwareAddr `json:"-"`                // not to be modified
	Gateway   netip.Addr       `json:"gateway,omitzero"` // zero when the address is on the link
	Source    netip.Addr       `json:"source,omitzero"`  // this host's address towards it
	VLANs     []uint16         `json:"vlans,omitempty"`  // tags of the frames, outer first, at most 2
	MTU       int              `json:"mtu,omitempty"`    // bytes of the IP packet
}

func (h *Hop) equal(o *Hop) bool {
	return h.Resolved == o.Resolved && h.Pending == o.Pending && h.Reason == o.Reason &&
		h.Interface == o.Interface && h.Index == o.Index && bytes.Equal(h.MAC, o.MAC) && bytes.Equal(h.LocalMAC, o.LocalMAC) &&
		h.Gateway == o.Gateway && h.Source == o.Source && slices.Equal(h.VLANs, o.VLANs) && h.MTU == o.MTU
}

const (
	// What comes within this time after a first change is looked at together.
	debounce = 5 * time.Millisecond
	// All is read again this often, in case a message was lost.
	refreshInterval = 30 * time.Second
	// So many addresses are resolved before others get a turn at the lock.
	batch = 256
)

// Resolver follows the next hops of the addresses it watches. Safe for concurrent use.
type Resolver struct {
	log       *slog.Logger
	changed   func(netip.Addr, *Hop)
	namespace netns.NsHandle
	handle    *netlink.Handle

	mu       sync.Mutex
	events   *nl.NetlinkSocket
	watched  map[netip.Addr]*watch
	stale    map[netip.Addr]bool        // of the watched, to be looked at again; true: its route too
	allStale bool                       // all of them, their routes too
	links    map[int]netlink.Link       // read since any changed
	table    map[neighbourKey]neighbour // the kernel's neighbours
	noted    map[neighbourKey]bool      // that changed while the table is read, otherwise nil
	peers    map[neighbourKey]*peer     // the neighbours that hops depend on

	reading sync.Mutex // held while the table is read, before mu
	wake    chan struct{}
	stop    chan struct{}
	closing sync.Once
	running sync.WaitGroup
}

// watch is a watched address. via is the neighbour that its hop depends on, zero when its route fails.
type watch struct {
	hop *Hop
	via neighbourKey
}

// NewResolver starts following the network namespace of the calling thread. changed is called with every
// hop that differs from the last one known, from one goroutine, which holds no lock.
func NewResolver(log *slog.Logger, changed func(netip.Addr, *Hop)) (*Resolver, error) {
	return newResolver(log, changed, probeInterval)
}

func newResolver(log *slog.Logger, changed func(netip.Addr, *Hop), probeInterval time.Duration) (_ *Resolver, err error) {
	r := &Resolver{
		log:       log,
		changed:   changed,
		namespace: netns.None(),
		watched:   make(map[netip.Addr]*watch),
		stale:     make(map[netip.Addr]bool),
		links:     make(map[int]netlink.Link),
		peers:     make(map[neighbourKey]*peer),
		wake:      make(chan struct{}, 1),
		stop:      make(chan struct{}),
	}
	defer func() {
		if err != nil {
			r.closeSockets()
		}
	}()
	if r.namespace, err = netns.Get(); err != nil {
		return nil, fmt.Errorf("opening the network namespace: %w", err)
	}
	if r.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	if err = r.subscribe(); err != nil {
		return nil, err
	}
	if err = r.readNeighbours(); err != nil {
		return nil, err
	}
	r.running.Go(r.listen)
	r.running.Go(r.update)
	r.running.Go(func() { r.probe(probeInterval) })
	return r, nil
}

// Close ends the following and waits for a call of changed that is under way. The kernel keeps what it
// knows, so that the next Resolver resolves the same addresses at once.
func (r *Resolver) Close() {
	r.closing.Do(func() {
		close(r.stop)
		r.mu.Lock()
		r.events.Close()
		r.mu.Unlock()
		r.running.Wait()
		r.closeSockets()
	})
}

func (r *Resolver) closeSockets() {
	if r.events != nil {
		r.events.Close()
	}
	if r.handle != nil {
		r.handle.Close()
	}
	if r.namespace.IsOpen() {
		r.namespace.Close()
	}
}

// Watch begins to follow the hop of an address and returns what it is now.
func (r *Resolver) Watch(address netip.Addr) *Hop {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watched[address]
	if w == nil {
		w = &watch{hop: unseen}
		r.watched[address] = w
	}
	if w.hop == unseen {
		w.hop = r.share(r.follow(address, w), w.via)
	}
	return w.hop
}

// WatchLater begins to follow the hop of an address, which is looked up and reported soon, or by Watch: for very many
// whose packets leave already.
func (r *Resolver) WatchLater(address netip.Addr) *Hop {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[address]; w != nil {
		return w.hop
	}
	r.watched[address] = &watch{hop: unseen}
	r.mark(address, true)
	return unseen
}

// unseen is the hop of an address that nobody has looked up.
var unseen = &Hop{Pending: true, Reason: "not looked up yet"}

// Unwatch ends the following of an address. The kernel may forget a neighbour that only it needed.
func (r *Resolver) Unwatch(address netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[address]; w != nil {
		delete(r.watched, address)
		delete(r.stale, address)
		r.leave(address, w.via)
	}
}

// Get returns the hop of a watched address.
func (r *Resolver) Get(address netip.Addr) (Hop, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[address]; w != nil {
		return *w.hop, true
	}
	return Hop{}, false
}

// follow resolves an address, its route too, and has it depend on the neighbour it leads to. r.mu must be
// held.
func (r *Resolver) follow(address netip.Addr, w *watch) Hop {
	hop, via := r.route(address)
	if via != w.via {
		r.leave(address, w.via)
		r.join(address, via)
		w.via = via
	}
	return r.complete(hop, via)
}

// share returns a hop that depends on a neighbour, the same one for all addresses that leave alike. r.mu must be held.
func (r *Resolver) share(hop Hop, via neighbourKey) *Hop {
	p := r.peers[via]
	if p == nil {
		return &hop
	}
	for _, known := range p.hops {
		if known != nil && known.equal(&hop) {
			return known
		}
	}
	p.hops[p.oldest] = &hop
	p.oldest = (p.oldest + 1) % len(p.hops)
	return &hop
}

// mark has a watched address looked at again, its route too or only its neighbour. r.mu must be held.
func (r *Resolver) mark(address netip.Addr, route bool) {
	r.stale[address] = r.stale[address] || route
	r.signal()
}

// markAll has every address and its route looked at again. r.mu must be held.
func (r *Resolver) markAll() {
	r.allStale = true
	r.signal()
}

func (r *Resolver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// update resolves again what was marked, until the resolver is closed. It rests for as long as it worked:
// a stream of changes to routes and links takes half a processor at most.
func (r *Resolver) update() {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	rest := debounce
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			r.rereadAll()
			continue
		case <-r.wake:
		}
		if !r.sleep(rest) {
			return
		}
		begin := time.Now()
		r.refresh()
		rest = max(debounce, time.Since(begin))
	}
}

// sleep returns false when the resolver is closed.
func (r *Resolver) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.stop:
		return false
	}
}

func (r *Resolver) closed() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// change is a hop to report, of an address as it was watched then.
type change struct {
	address netip.Addr
	watch   *watch
	hop     *Hop
}

// refresh resolves what was marked and reports what differs.
func (r *Resolver) refresh() {
	for more := true; more && !r.closed(); {
		var changes []change
		changes, more = r.refreshBatch()
		for _, c := range changes {
			r.report(c)
		}
	}
}

// refreshBatch resolves some of what was marked. Returns what differs, and whether there is more.
func (r *Resolver) refreshBatch() (changes []change, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allStale {
		r.allStale = false
		for address := range r.watched {
			r.stale[address] = true
		}
	}
	left := batch
	for address, route := range r.stale {
		if left--; left < 0 {
			return changes, true
		}
		delete(r.stale, address)
		w := r.watched[address]
		if w == nil {
			continue
		}
		hop := Hop{}
		if route {
			hop = r.follow(address, w)
		} else {
			hop = r.complete(*w.hop, w.via)
		}
		if !hop.equal(w.hop) {
			w.hop = r.share(hop, w.via)
			changes = append(changes, change{address: address, watch: w, hop: w.hop})
		}
	}
	r.stale = make(map[netip.Addr]bool) // a map keeps the room that it once needed
	return changes, false
}

// report calls changed. When the address was unwatched and watched again meanwhile, whoever did that has a
// newer hop than the one that was just reported, and is told it once more.
func (r *Resolver) report(c change) {
	for {
		r.changed(c.address, c.hop)
		r.mu.Lock()
		w := r.watched[c.address]
		if w == nil || w == c.watch {
			r.mu.Unlock()
			return
		}
		c.watch, c.hop = w, w.hop
		r.mu.Unlock()
	}
}
