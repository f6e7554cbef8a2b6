package dataplane

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Traced is a packet as it would have been handled.
type Traced struct {
	Verdict
	Frame []byte // as it would leave, or as it was when it was dropped
}

// loopback is the index of every namespace's lo.
const loopback = 1

const (
	ethernetHeader = 14
	// The kernel runs programs on frames of up to a page, less room before and behind
	// (bpf_prog_test_run_xdp in net/bpf/test_run.c).
	longestFrame = 3400
)

// Trace runs frames one after the other through the program, as if they had come in by an interface, and says
// what would become of each. It works on a copy of what is remembered, so that nothing is sent and what the
// live program knows and counts does not change; the frames see what earlier ones of the same call left. ifindex
// 0 is the loopback interface.
//
// The copy costs time and memory, seconds and as much as the tables take when they are full, so there is one trace
// at a time; others wait.
func (d *Dataplane) Trace(frames [][]byte, ifindex int) ([]Traced, error) {
	d.tracing.Lock()
	defer d.tracing.Unlock()
	t, err := d.newTracer(len(frames))
	if err != nil {
		return nil, err
	}
	defer t.close()
	traced := make([]Traced, len(frames))
	for i, frame := range frames {
		if traced[i], err = t.run(frame, max(ifindex, loopback)); err != nil {
			return nil, fmt.Errorf("packet %d: %w", i+1, err)
		}
	}
	return traced, nil
}

// tracer is a program of its own that shares what the live one only reads.
type tracer struct {
	dataplane *Dataplane
	objects   shownObjects
	events    *ringbuf.Reader
	localMAC  net.HardwareAddr // that next hops of a private dataplane have now
}

// newTracer copies what the live program remembers, with room for so many packets more. That takes a while, so
// nobody is held up meanwhile: the maps stay what they are until d is closed.
func (d *Dataplane) newTracer(packets int) (*tracer, error) {
	spec, err := d.spec(map[string]any{"rehearses": uint8(1)})
	if err != nil {
		return nil, err
	}
	spec.Maps["events"].MaxEntries = 64 << 10
	for _, name := range []string{"handshakes4", "handshakes6", "signals"} {
		spec.Maps[name].MaxEntries = 4096 // its own, that nobody reads
	}
	copies := newCopies()
	for name, m := range rememberedMaps(&d.objects.balancerMaps) {
		if err := copies[name].read(m); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		// An LRU map evicts when fewer entries are free than a processor takes at once (LOCAL_FREE_TARGET in
		// kernel/bpf/bpf_lru_list.c); each packet adds at most two.
		spec.Maps[name].MaxEntries = uint32(copies[name].length() + 128*(ebpf.MustPossibleCPU()+1) + 4*packets)
	}
	t := &tracer{dataplane: d}
	if err := spec.LoadAndAssign(&t.objects, &ebpf.CollectionOptions{MapReplacements: sharedMaps(&d.objects.balancerMaps)}); err != nil {
		return nil, fmt.Errorf("loading a copy of the balancer: %w", err)
	}
	if t.events, err = ringbuf.NewReader(t.objects.Events); err != nil {
		return nil, errors.Join(err, t.objects.Close())
	}
	for name, m := range rememberedMaps(&t.objects.balancerMaps) {
		if err := copies[name].write(m); err != nil {
			return nil, errors.Join(fmt.Errorf("copying %s: %w", name, err), t.close())
		}
	}
	return t, nil
}

func (t *tracer) close() error { return errors.Join(t.events.Close(), t.objects.Close()) }

// run gives one frame to the program.
func (t *tracer) run(frame []byte, ifindex int) (Traced, error) {
	if len(frame) < ethernetHeader || len(frame) > longestFrame {
		// No interface delivers such a frame to XDP; the host's stack gets it.
		return Traced{Verdict: Verdict{Action: actionNames[xdpPass], Reason: "pass_not_seen"}, Frame: frame}, nil
	}
	if t.dataplane.isPrivate() {
		t.dataplane.receiveAs(t, net.HardwareAddr(frame[:6]))
	}
	action, out, err := runProgram(t.objects.ShownBalancer, ifindex, frame)
	if err != nil {
		return Traced{}, err
	}
	t.events.SetDeadline(time.Now().Add(time.Second)) // it is there already
	event, err := readEvent(t.events)
	if err != nil {
		return Traced{}, err
	}
	t.dataplane.mu.Lock()
	defer t.dataplane.mu.Unlock()
	return Traced{Verdict: t.dataplane.verdict(event.Verdict, action), Frame: out}, nil
}

// receiveAs has the frames of a private dataplane leave from the address that they came to.
func (d *Dataplane) receiveAs(t *tracer, mac net.HardwareAddr) {
	if slices.Equal(mac, t.localMAC) {
		return
	}
	t.localMAC = slices.Clone(mac)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, st := range d.state {
		for _, b := range st.backends {
			copy(d.backends.items[b.index].Hop.LocalMac[:], mac)
		}
	}
}
