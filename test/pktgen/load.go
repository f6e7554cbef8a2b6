package main

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"
)

// load is what is sent for one row of the table.
type load struct {
	Size    int    `json:"size"` // bytes of the frame without its checksum
	Flows   int    `json:"flows"`
	Threads int    `json:"threads"`
	Rate    int    `json:"rate,omitempty"`    // packets/s of all threads together, 0 is as many as can be
	Packets uint64 `json:"packets,omitempty"` // in all; 0 is as many as are sent in the duration

	duration time.Duration
	repeat   int // how often each packet is sent in a row
}

// Source ports of the flows: all that are not for well-known services.
const (
	firstPort = 1024
	portCount = 1<<16 - firstPort
)

// check says what is wrong with the load, by the name of the flag.
func (l load) check(t target) error {
	v6 := t.destination.Addr().Is6()
	switch _, _, fits := l.spread(v6); {
	case l.Size < t.smallest() || l.Size > 9014: // jumbo frames: 9,000 bytes behind the Ethernet header
		return fmt.Errorf("--size: %d is not between %d and 9014", l.Size, t.smallest())
	case l.Threads < 1:
		return fmt.Errorf("--threads: %d is less than 1", l.Threads)
	case l.Flows < l.Threads:
		return fmt.Errorf("--flows: %d is less than 1 for each of %d threads", l.Flows, l.Threads)
	case !fits && v6:
		return fmt.Errorf("--flows: pktgen changes no IPv6 source address, so a thread has at most %d flows; give more threads or less flows than %d", portCount, l.Flows)
	case !fits:
		return fmt.Errorf("--flows: %d is more than 1,000,000,000", l.Flows)
	case l.Rate < 0 || l.Rate > 0 && l.Rate < l.Threads:
		return fmt.Errorf("--rate: %d is less than 1 packet per second for each of %d threads", l.Rate, l.Threads)
	case l.Packets > 0 && l.Packets < uint64(l.Threads) || l.Packets > math.MaxUint32:
		return fmt.Errorf("--packets: %d is not between %d and %d", l.Packets, l.Threads, uint32(math.MaxUint32))
	case l.duration <= 0:
		return fmt.Errorf("--duration: %v is not positive", l.duration)
	case l.repeat < 1:
		return fmt.Errorf("--repeat: %d is less than 1", l.repeat)
	}
	return nil
}

// spread returns how many source addresses and ports each thread uses. With every packet pktgen goes on to the next
// address and to the next port (mod_cur_headers in the kernel's net/core/pktgen.c), so that all pairs come only if
// the two numbers have no common divisor: there may be a few more flows than asked for.
func (l load) spread(v6 bool) (addresses, ports int, ok bool) {
	each := (l.Flows + l.Threads - 1) / max(l.Threads, 1)
	for addresses = 1; addresses <= 1<<14; addresses++ {
		ports = (each + addresses - 1) / addresses
		for ; ports <= portCount; ports++ {
			if gcd(addresses, ports) == 1 {
				return addresses, ports, addresses == 1 || !v6
			}
		}
	}
	return 0, 0, false
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// commands configure the device of one thread of several, numbered from 0.
func (l load) commands(t target, thread int) []string {
	v6 := t.destination.Addr().Is6()
	addresses, ports, _ := l.spread(v6)
	first := advance(t.source, thread*addresses)
	commands := []string{
		"count " + strconv.FormatUint(l.part(thread), 10),
		"pkt_size " + strconv.Itoa(l.Size),
		"clone_skb " + strconv.Itoa(l.clones()),
		"dst_mac " + t.mac.String(),
		fmt.Sprintf("udp_src_min %d", firstPort),
		fmt.Sprintf("udp_src_max %d", firstPort+ports), // exclusive
		fmt.Sprintf("udp_dst_min %d", t.destination.Port()),
		fmt.Sprintf("udp_dst_max %d", t.destination.Port()),
	}
	if v6 {
		commands = append(commands,
			"dst6 "+t.destination.Addr().String(), "src6 "+first.String(),
			"flag UDPCSUM", // not optional in IPv6 (RFC 8200, section 8.1)
		)
	} else {
		commands = append(commands,
			"dst_min "+t.destination.Addr().String(), "dst_max "+t.destination.Addr().String(),
			"src_min "+first.String(), "src_max "+advance(first, addresses-1).String(), // inclusive
		)
	}
	if l.repeat > 1 {
		commands = append(commands, "burst "+strconv.Itoa(l.repeat))
	}
	if l.Rate > 0 {
		commands = append(commands, "ratep "+strconv.Itoa(l.Rate/l.Threads))
	}
	return commands
}

// clones is pktgen's own number for l.repeat: 0 builds every packet.
func (l load) clones() int {
	if l.repeat > 1 {
		return l.repeat
	}
	return 0
}

// part is how many of the packets one thread sends, 0 for no limit.
func (l load) part(thread int) uint64 {
	part := l.Packets / uint64(l.Threads)
	if uint64(thread) < l.Packets%uint64(l.Threads) {
		part++
	}
	return part
}

// advance returns the n-th address after a, of the addresses that differ in their last 32 bits.
func advance(a netip.Addr, n int) netip.Addr {
	bytes := a.AsSlice()
	for i := len(bytes) - 1; i >= len(bytes)-4; i-- {
		n += int(bytes[i])
		bytes[i] = byte(n)
		n >>= 8
	}
	next, _ := netip.AddrFromSlice(bytes)
	return next
}
