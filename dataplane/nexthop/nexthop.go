// Package nexthop finds and follows where packets for an address leave this host: interface, MAC addresses
// and VLANs, from the kernel's routes and neighbours. It only reads netlink and asks the kernel to keep
// neighbours fresh; it knows nothing of BPF.
package nexthop

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Hop is where packets for an address leave this host.
type Hop struct {
	Resolved  bool             `json:"resolved"`
	Reason    string           `json:"reason,omitempty"` // why it is unresolved, one phrase
	Interface string           `json:"interface,omitempty"`
	Index     int              `json:"-"` // of the interface that carries the frames, below any VLAN
	MAC       net.HardwareAddr `json:"-"` // of the next router or host
	LocalMAC  net.HardwareAddr `json:"-"`
	Gateway   netip.Addr       `json:"gateway,omitzero"` // zero when the address is on the link
	Source    netip.Addr       `json:"source,omitzero"`  // this host's address towards it
	VLANs     []uint16         `json:"vlans,omitempty"`  // tags of the frames, outer first, at most 2
	MTU       int              `json:"mtu,omitempty"`    // bytes of the IP packet
}

const (
	// What comes within this time after a first change is looked at together.
	debounce = 5 * time.Millisecond
	// All is read again this often, in case a message was lost.
	refreshInterval = 30 * time.Second
	// For bursts such as a full routing table.
	receiveBuffer = 4 << 20
)

// Resolver follows the next hops of the addresses it watches. Safe for concurrent use.
type Resolver struct {
	log     *slog.Logger
	changed func(netip.Addr, Hop)
	handle  *netlink.Handle
	events  *nl.NetlinkSocket

	mu         sync.Mutex
	watched    map[netip.Addr]*watch
	dependents map[neighbourKey]map[netip.Addr]*watch // the watched, by via
	neighbours map[neighbourKey]netlink.Neigh

	wake    chan struct{}
	stop    chan struct{}
	running sync.WaitGroup
}

// watch is a watched address. via is the neighbour that its hop depends on.
type watch struct {
	hop   Hop
	via   neighbourKey
	stale bool
}

type neighbourKey struct {
	link    int
	address netip.Addr
}

// NewResolver starts following the network namespace of the calling thread. changed is called with every
// hop that differs from the last one known, from one goroutine, which holds no lock.
func NewResolver(log *slog.Logger, changed func(netip.Addr, Hop)) (*Resolver, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("subscribing to netlink: %w", err)
	}
	r := &Resolver{
		log:     log,
		changed: changed,
		handle:  handle,
		events:  events,
		watched: make(map[netip.Addr]*watch),

		dependents: make(map[neighbourKey]map[netip.Addr]*watch),

		wake: make(chan struct{}, 1),
		stop: make(chan struct{}),
	}
	if err := events.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		log.Warn("netlink has a small buffer: bursts of changes cost a full refresh", "error", err)
	}
	if err := r.readNeighbours(); err != nil {
		events.Close()
		handle.Close()
		return nil, err
	}
	r.running.Go(r.listen)
	r.running.Go(r.update)
	return r, nil
}

// Close ends the following. The kernel keeps what it knows.
func (r *Resolver) Close() {
	close(r.stop)
	r.events.Close()
	r.running.Wait()
	r.handle.Close()
}

// Watch begins to follow the hop of an address and returns what it is now.
func (r *Resolver) Watch(address netip.Addr) Hop {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[address]; w != nil {
		return w.hop
	}
	w := &watch{}
	r.watched[address] = w
	w.hop = r.follow(address, w, make(links))
	return w.hop
}

// Unwatch ends the following of an address. The neighbour that only it needed is no longer kept fresh.
func (r *Resolver) Unwatch(address netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watched[address]
	if w == nil {
		return
	}
	delete(r.watched, address)
	if r.leave(address, w); r.dependents[w.via] == nil {
		r.release(w.via)
	}
}

// follow resolves an address and notes which neighbour it depends on. r.mu must be held.
func (r *Resolver) follow(address netip.Addr, w *watch, known links) Hop {
	hop, via := r.resolve(address, known)
	r.leave(address, w)
	w.via = via
	if r.dependents[via] == nil {
		r.dependents[via] = make(map[netip.Addr]*watch)
	}
	r.dependents[via][address] = w
	return hop
}

// leave ends the dependence of an address on its neighbour.
func (r *Resolver) leave(address netip.Addr, w *watch) {
	dependents := r.dependents[w.via]
	delete(dependents, address)
	if len(dependents) == 0 {
		delete(r.dependents, w.via)
	}
}

// Get returns the hop of a watched address.
func (r *Resolver) Get(address netip.Addr) (Hop, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[address]; w != nil {
		return w.hop, true
	}
	return Hop{}, false
}

// listen marks what each netlink message may have changed, until the socket is closed.
func (r *Resolver) listen() {
	for {
		messages, _, err := r.events.Receive()
		select {
		case <-r.stop:
			return
		default:
		}
		if err != nil {
			// ENOBUFS: messages were lost. Anything else is as uncertain.
			r.log.Debug("netlink lost messages, reading all again", "error", err)
			r.rereadAll()
			continue
		}
		for _, m := range messages {
			r.note(m.Header.Type, m.Data)
		}
	}
}

// note takes in one message.
func (r *Resolver) note(kind uint16, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind != unix.RTM_NEWNEIGH && kind != unix.RTM_DELNEIGH {
		r.markAll()
		return
	}
	neighbour, err := netlink.NeighDeserialize(data)
	if err != nil {
		r.log.Debug("unreadable neighbour message", "error", err)
		r.markAll()
		return
	}
	key, ok := keyOf(*neighbour)
	if !ok {
		return
	}
	if kind == unix.RTM_NEWNEIGH {
		r.neighbours[key] = *neighbour
	} else {
		delete(r.neighbours, key)
	}
	for _, w := range r.dependents[key] {
		w.stale = true
		r.signal()
	}
}

// keyOf returns false for neighbours that are none of IP, such as those of a bridge.
func keyOf(n netlink.Neigh) (neighbourKey, bool) {
	address, ok := netip.AddrFromSlice(n.IP)
	if n.Family != unix.AF_INET && n.Family != unix.AF_INET6 {
		return neighbourKey{}, false
	}
	return neighbourKey{link: n.LinkIndex, address: address.Unmap()}, ok
}

// markAll has every address looked at again. r.mu must be held.
func (r *Resolver) markAll() {
	for _, w := range r.watched {
		w.stale = true
	}
	r.signal()
}

func (r *Resolver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// rereadAll starts again from what the kernel holds.
func (r *Resolver) rereadAll() {
	if err := r.readNeighbours(); err != nil {
		r.log.Error("cannot read the neighbours; trying again", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.markAll()
}

func (r *Resolver) readNeighbours() error {
	list, err := r.handle.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("reading the neighbours: %w", err)
	}
	neighbours := make(map[neighbourKey]netlink.Neigh, len(list))
	for _, n := range list {
		if key, ok := keyOf(n); ok {
			neighbours[key] = n
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.neighbours = neighbours
	return nil
}

// update resolves again what was marked, until the resolver is closed.
func (r *Resolver) update() {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			r.rereadAll()
		case <-r.wake:
			select {
			case <-time.After(debounce):
			case <-r.stop:
				return
			}
		}
		for address, hop := range r.refresh() {
			r.changed(address, hop)
		}
	}
}

// refresh resolves what was marked and returns what differs.
func (r *Resolver) refresh() map[netip.Addr]Hop {
	r.mu.Lock()
	defer r.mu.Unlock()
	different := make(map[netip.Addr]Hop)
	known := make(links)
	for address, w := range r.watched {
		if !w.stale {
			continue
		}
		w.stale = false
		hop := r.follow(address, w, known)
		if !reflect.DeepEqual(hop, w.hop) {
			w.hop = hop
			different[address] = hop
		}
	}
	return different
}
