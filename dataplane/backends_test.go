package dataplane

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
)

// Who finds the interface in the record of a backend, as the program looks for it first, finds the rest too. A
// reader looks on while a next hop becomes resolved again and again.
func TestHopIsWhole(t *testing.T) {
	const rounds, most, index = 200_000, 100_000_000, 1
	h := newTestHost(t, testOptions(t))
	hop := NextHop{Resolved: true, Index: h.servers, MAC: serverMAC(11), LocalMAC: serversMAC, Source: addr("198.51.100.1"), MTU: 1500}
	record := &h.backends.items[index]
	words := (*[unsafe.Sizeof(*record) / 8]uint64)(unsafe.Pointer(record))
	const ifindex, source = unsafe.Offsetof(record.Hop.Ifindex) / 8, unsafe.Offsetof(record.Source) / 8

	var step atomic.Int64 // two a round: odd while the record is emptied, even while it is written
	var seen, torn atomic.Int64
	var ended atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		for !ended.Load() {
			now := step.Load()
			resolved := atomic.LoadUint64(&words[ifindex]) != 0
			whole := atomic.LoadUint64(&words[source]) != 0
			if now%2 != 0 || step.Load() != now || !resolved {
				continue
			}
			if seen.Add(1); !whole {
				torn.Add(1)
			}
		}
	})
	for round := 0; round < rounds || seen.Load() < 100 && round < most; round++ { // it has to get a processor of its own
		step.Add(1)
		for i := range words {
			atomic.StoreUint64(&words[i], 0)
		}
		step.Add(1)
		h.writeHop(index, &hop)
	}
	step.Add(1)
	ended.Store(true)
	reader.Wait()
	if seen.Load() == 0 || torn.Load() > 0 {
		t.Errorf("of %d resolved hops %d had no source address", seen.Load(), torn.Load())
	}
}

// What was adopted keeps its next hop until it is known that there is another or none: its neighbour may be one
// that the kernel has forgotten meanwhile.
func TestHopIsKept(t *testing.T) {
	options := testOptions(t)
	h := newTestHost(t, options)
	s := udpService(servers([]int{11}, 100)...)
	h.set(t, s)
	must(t, h.Close())
	must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: h.servers, IP: net.ParseIP("198.51.100.11")}))
	const patience = "/proc/sys/net/ipv4/neigh/eth1/mcast_solicit"
	must(t, os.WriteFile(patience, []byte("1000"), 0)) // so long does the kernel ask
	h.Dataplane = openTest(t, options)
	h.openDevice(h.clients)
	must(t, h.SetService(s))
	frame := fromClient(ProtocolUDP, client4, service4)
	if got := h.backendOf(t, frame); got != addr("198.51.100.11") {
		t.Errorf("packets go to %s", got)
	}
	must(t, os.WriteFile(patience, []byte("1"), 0))
	eventually(t, "an answer that there is no such neighbour", func() bool {
		action, _ := h.receive(t, h.clients, frame.frame(t))
		return action == xdpDrop
	})
}
