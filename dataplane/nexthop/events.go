package nexthop

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// Room for bursts such as a full routing table.
	receiveBuffer = 4 << 20
	// A subscription that failed is tried again after this time.
	resubscribeInterval = time.Second
)

// groups are the multicast groups whose messages can change a hop. A nexthop object that is replaced
// changes routes without a message of theirs.
var groups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_NEXTHOP,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
}

// subscribe opens the socket on which the kernel tells of changes.
func (r *Resolver) subscribe() error {
	events, err := nl.SubscribeAt(r.namespace, netns.None(), unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("subscribing to netlink: %w", err)
	}
	if err := events.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		r.log.Warn("netlink has a small buffer: bursts of changes cost a full refresh", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed() {
		events.Close()
		return nil
	}
	r.events = events
	return nil
}

// resubscribe replaces a socket that has failed.
func (r *Resolver) resubscribe(cause error) {
	r.log.Warn("netlink failed, subscribing again", "error", cause)
	r.events.Close()
	for r.sleep(resubscribeInterval) {
		err := r.subscribe()
		if err == nil {
			r.rereadAll()
			return
		}
		r.log.Error("next hops are followed only by reading all again", "interval", refreshInterval, "error", err)
	}
}

// listen marks what each netlink message may have changed, until the resolver is closed.
func (r *Resolver) listen() {
	for {
		messages, _, err := r.events.Receive()
		switch {
		case r.closed():
			return
		case errors.Is(err, unix.ENOBUFS):
			r.log.Debug("netlink lost messages, reading all again")
			r.rereadAll()
		case err != nil:
			r.resubscribe(err)
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
	switch kind {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		r.noteNeighbour(kind, data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r.noteRoute(data)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		clear(r.links)
		r.markAll()
	default:
		r.markAll()
	}
}

func (r *Resolver) noteNeighbour(kind uint16, data []byte) {
	message, err := netlink.NeighDeserialize(data)
	if err != nil {
		r.log.Debug("unreadable neighbour message", "error", err)
		return
	}
	key, n, ok := parseNeighbour(*message)
	if !ok {
		return
	}
	if r.noted != nil {
		r.noted[key] = true
	}
	if kind == unix.RTM_NEWNEIGH {
		r.table[key] = n
	} else {
		delete(r.table, key)
	}
	r.heed(key)
}

// noteRoute marks the addresses that a route is for: a full routing table may come and go without work for
// addresses that take other ways.
func (r *Resolver) noteRoute(data []byte) {
	destination, err := parseDestination(data)
	if err != nil {
		r.log.Debug("unreadable route message", "error", err)
		r.markAll()
		return
	}
	if r.allStale {
		return
	}
	for address := range r.watched {
		if destination.Contains(address) {
			r.mark(address, true)
		}
	}
}

// parseDestination returns the prefix that a message of a route is about.
func parseDestination(data []byte) (netip.Prefix, error) {
	if len(data) < unix.SizeofRtMsg {
		return netip.Prefix{}, fmt.Errorf("%d bytes are no route", len(data))
	}
	route := nl.DeserializeRtMsg(data)
	address := netip.IPv4Unspecified()
	if route.Family == unix.AF_INET6 {
		address = netip.IPv6Unspecified()
	}
	attributes, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.RTA_DST {
			address, _ = netip.AddrFromSlice(a.Value)
		}
	}
	return address.Prefix(int(route.Dst_len))
}

// rereadAll starts again from what the kernel holds.
func (r *Resolver) rereadAll() {
	if err := r.readNeighbours(); err != nil {
		r.log.Error("cannot read the neighbours; trying again", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.links)
	r.markAll()
}

// readNeighbours replaces the table.
func (r *Resolver) readNeighbours() error {
	r.reading.Lock()
	defer r.reading.Unlock()
	r.beginTable()
	list, err := r.handle.NeighList(0, unix.AF_UNSPEC)
	// An interrupted list lacks only neighbours of which messages come.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("reading the neighbours: %w", err)
	}
	r.replaceTable(list)
	return nil
}

// beginTable notes from now on of which neighbours there are messages.
func (r *Resolver) beginTable() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted = make(map[neighbourKey]bool)
}

// replaceTable makes a table of what was read. A neighbour of which a message came meanwhile is as that
// said, since it may be newer.
func (r *Resolver) replaceTable(list []netlink.Neigh) {
	r.mu.Lock()
	defer r.mu.Unlock()
	table := make(map[neighbourKey]neighbour, len(list))
	for _, message := range list {
		if key, n, ok := parseNeighbour(message); ok && !r.noted[key] {
			table[key] = n
		}
	}
	for key := range r.noted {
		if n, ok := r.table[key]; ok {
			table[key] = n
		}
	}
	r.table, r.noted = table, nil
	for key := range r.peers {
		r.heed(key)
	}
}
