package nexthop

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Packets sent by XDP do not touch the kernel's neighbours, so nothing there would notice that one has
// moved or gone. The resolver has the kernel probe those that hops depend on:
//
//   - each is asked at its MAC (NUD_PROBE) once per probeInterval;
//   - when it has not answered by the next time, it is asked by broadcast or multicast, and hops keep its
//     MAC meanwhile: a lost answer must not stop traffic;
//   - when it does not answer three of those, a second apart (mcast_solicit, retrans_time_ms), its hops are
//     unresolved, and it is asked on.
//
// A neighbour that says by itself that its MAC is another (gratuitous ARP) is noticed at once, one that is
// silent about it within 2 probeIntervals, and one that is gone within 2 probeIntervals and 3 s.
//
// The entries are marked as learned elsewhere (NTF_EXT_LEARNED), which keeps the kernel from collecting
// them as unused and from counting them towards gc_thresh3, 1024 by default. They are not managed ones
// (NTF_EXT_MANAGED): the kernel probes those about once a minute, and cannot be asked to do it now.
const (
	probeInterval = time.Second
	// An interval's probes are spread over so many parts of it.
	probeParts = 10
	// More probes in a part would be a load; with more than 1,000 neighbours a round takes longer instead.
	maxProbesPerPart = 100
)

// Neighbours in these states have a MAC that may be used (include/net/neighbour.h, NUD_VALID).
const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE |
	netlink.NUD_STALE | netlink.NUD_DELAY

type neighbourKey struct {
	link    int
	address netip.Addr
}

// neighbour is an entry of the kernel's table.
type neighbour struct {
	state   int // NUD_*
	mac     net.HardwareAddr
	learned bool // kept by the resolver, or by the one before it
	foreign bool // kept by someone else: configured by hand, or managed
}

// parseNeighbour returns false for neighbours that are none of IP, such as those of a bridge.
func parseNeighbour(message netlink.Neigh) (neighbourKey, neighbour, bool) {
	address, ok := netip.AddrFromSlice(message.IP)
	if !ok || message.Family != unix.AF_INET && message.Family != unix.AF_INET6 {
		return neighbourKey{}, neighbour{}, false
	}
	n := neighbour{
		state:   message.State,
		learned: message.Flags&netlink.NTF_EXT_LEARNED != 0,
		foreign: message.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 || message.FlagsExt&netlink.NTF_EXT_MANAGED != 0,
	}
	if message.State&valid != 0 && len(message.HardwareAddr) == ethernetAddress {
		n.mac = message.HardwareAddr
	}
	return neighbourKey{link: message.LinkIndex, address: address.Unmap()}, n, true
}

// peer is a neighbour that hops depend on.
type peer struct {
	users  map[netip.Addr]bool
	hops   [4]*Hop          // the latest that users share: they differ in routes
	oldest int              // of these
	mac    net.HardwareAddr // nil when it does not answer
	asked  bool             // by broadcast, since it answered last
	silent bool             // did not answer in the time that it had
	warned bool
}

// join has an address depend on a neighbour. r.mu must be held.
func (r *Resolver) join(address netip.Addr, via neighbourKey) {
	if via == (neighbourKey{}) {
		return
	}
	p := r.peers[via]
	if p == nil {
		p = &peer{users: make(map[netip.Addr]bool)}
		r.peers[via] = p
		if p.mac = r.table[via].mac; p.mac == nil {
			r.ask(via, p)
		}
	}
	p.users[address] = true
}

// leave undoes join. r.mu must be held.
func (r *Resolver) leave(address netip.Addr, via neighbourKey) {
	p := r.peers[via]
	if p == nil {
		return
	}
	delete(p.users, address)
	if len(p.users) == 0 {
		delete(r.peers, via)
		r.release(via)
	}
}

// complete fills in what the neighbour decides. r.mu must be held.
func (r *Resolver) complete(hop Hop, via neighbourKey) Hop {
	p := r.peers[via]
	if p == nil {
		return hop
	}
	hop.MAC, hop.Resolved, hop.Reason = p.mac, p.mac != nil, ""
	hop.Pending = !hop.Resolved && !p.silent
	if !hop.Resolved {
		question := "ARP"
		if via.address.Is6() {
			question = "neighbour discovery"
		}
		hop.Reason = fmt.Sprintf("no answer to %s for %s on %s", question, via.address, hop.Interface)
	}
	return hop
}

// heed takes in what the table says of a neighbour now. r.mu must be held.
func (r *Resolver) heed(key neighbourKey) {
	p := r.peers[key]
	if p == nil {
		return
	}
	n, known := r.table[key]
	switch {
	case n.mac != nil:
		p.asked = false
		r.setMAC(p, n.mac)
	case !known:
		r.ask(key, p)
	case n.state != netlink.NUD_FAILED:
		// It is being asked.
	case p.asked:
		r.setMAC(p, nil)
	default:
		r.ask(key, p)
	}
}

// setMAC takes in the MAC of a neighbour, nil when it does not answer. r.mu must be held.
func (r *Resolver) setMAC(p *peer, mac net.HardwareAddr) {
	silent := mac == nil
	if bytes.Equal(p.mac, mac) && p.silent == silent {
		return
	}
	p.mac, p.silent = mac, silent
	for address := range p.users {
		r.mark(address, false)
	}
}

// ask has the kernel look for a neighbour by broadcast or multicast, if it is not doing that already.
// r.mu must be held.
func (r *Resolver) ask(key neighbourKey, p *peer) {
	p.asked = true
	n, known := r.table[key]
	if n.foreign {
		r.setMAC(p, p.mac) // there is nothing to wait for
		return
	}
	set := r.handle.NeighSet
	if !known {
		// One that was made just now may be permanent, which it would not stay: its message is on the way.
		set = r.handle.NeighAdd
	}
	err := set(key.entry(netlink.NUD_NONE, netlink.NTF_USE|netlink.NTF_EXT_LEARNED))
	if err == nil || errors.Is(err, unix.EEXIST) {
		return
	}
	r.setMAC(p, p.mac)
	if p.warned {
		return
	}
	p.warned = true
	r.log.Warn("the kernel will not look for a neighbour", "address", key.address, "error", err)
}

// release leaves a neighbour to the kernel alone, which collects it when it is unused. r.mu must be held.
func (r *Resolver) release(key neighbourKey) {
	var err error
	switch n, known := r.table[key]; {
	case n.foreign, known && !n.learned:
		return
	case n.mac != nil:
		err = r.handle.NeighSet(key.entry(netlink.NUD_STALE, 0))
	default:
		err = r.handle.NeighDel(key.entry(netlink.NUD_NONE, 0))
	}
	if err != nil {
		r.log.Debug("the kernel will not forget a neighbour", "address", key.address, "error", err)
	}
}

// probe goes round the peers, each once per interval, until the resolver is closed.
func (r *Resolver) probe(interval time.Duration) {
	ticker := time.NewTicker(interval / probeParts)
	defer ticker.Stop()
	var round []neighbourKey
	share := 0
	for part := 1; ; part++ {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
		}
		if len(round) == 0 && part >= probeParts {
			round, part = r.peerKeys(), 0
			share = min((len(round)+probeParts-1)/probeParts, maxProbesPerPart)
		}
		now := min(share, len(round))
		for _, key := range round[:now] {
			r.probeOne(key)
		}
		round = round[now:]
	}
}

func (r *Resolver) peerKeys() []neighbourKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]neighbourKey, 0, len(r.peers))
	for key := range r.peers {
		keys = append(keys, key)
	}
	return keys
}

// probeOne takes the next step to know whether a neighbour is still there.
func (r *Resolver) probeOne(key neighbourKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[key]
	if p == nil {
		return
	}
	n := r.table[key]
	state := netlink.NUD_PROBE
	switch {
	case n.foreign:
		return
	case n.mac == nil:
		r.ask(key, p)
		return
	case n.state == netlink.NUD_PROBE:
		// It has not answered the last one. Its message has it asked otherwise.
		state = netlink.NUD_FAILED
	}
	if err := r.handle.NeighSet(key.entry(state, netlink.NTF_EXT_LEARNED)); err != nil {
		r.log.Debug("the kernel will not probe a neighbour", "address", key.address, "error", err)
	}
}

// entry is a request about a neighbour.
func (k neighbourKey) entry(state, flags int) *netlink.Neigh {
	family := unix.AF_INET
	if k.address.Is6() {
		family = unix.AF_INET6
	}
	return &netlink.Neigh{LinkIndex: k.link, Family: family, IP: k.address.AsSlice(), State: state, Flags: flags}
}
