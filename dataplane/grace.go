package dataplane

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// grace waits until every program that was running when it was asked has finished.
//
// The kernel does so when user space replaces a map inside a map (maybe_wait_bpf_programs in
// kernel/bpf/syscall.c). membarrier(MEMBARRIER_CMD_GLOBAL) would do as well, but not on hosts with
// nohz_full processors.
type grace struct{ outer, inner *ebpf.Map }

func newGrace() (*grace, error) {
	innerSpec := &ebpf.MapSpec{Name: "grace_inner", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	inner, err := ebpf.NewMap(innerSpec)
	if err != nil {
		return nil, err
	}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "grace", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: innerSpec,
	})
	if err != nil {
		inner.Close()
		return nil, err
	}
	return &grace{outer: outer, inner: inner}, nil
}

func (g *grace) wait() error {
	if err := g.outer.Put(uint32(0), g.inner); err != nil {
		return fmt.Errorf("waiting for running programs: %w", err)
	}
	return nil
}

func (g *grace) close() {
	g.outer.Close()
	g.inner.Close()
}

// retired is something that programs may still read.
type retired struct {
	free func() // called with Dataplane.mu held, after a grace period
	done bool
}

// retire has free called when no running program can still read what it frees. d.mu must be held.
func (d *Dataplane) retire(free func()) {
	d.retired = append(d.retired, &retired{free: free})
	select {
	case d.retirement <- struct{}{}:
	default:
	}
}

// reclaim frees at once, after waiting, all that is retired. d.mu must be held.
func (d *Dataplane) reclaim() error {
	if err := d.grace.wait(); err != nil {
		return err
	}
	d.release(d.retired)
	return nil
}

// release frees what its grace period has passed for. d.mu must be held.
func (d *Dataplane) release(passed []*retired) {
	for _, r := range passed {
		if !r.done {
			r.done = true
			r.free()
		}
	}
	kept := d.retired[:0]
	for _, r := range d.retired {
		if !r.done {
			kept = append(kept, r)
		}
	}
	clear(d.retired[len(kept):])
	d.retired = kept
}

// reclaimInBackground waits without holding up anybody, until d.stop is closed.
func (d *Dataplane) reclaimInBackground() {
	for {
		select {
		case <-d.stop:
			return
		case <-d.retirement:
		}
		d.mu.Lock()
		waiting := append([]*retired(nil), d.retired...)
		d.mu.Unlock()
		if err := d.grace.wait(); err != nil {
			d.log.Error("cannot free retired tables; they are freed when space runs out", "error", err)
			continue
		}
		d.mu.Lock()
		d.release(waiting)
		d.mu.Unlock()
	}
}
