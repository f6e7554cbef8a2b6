package dataplane

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// counters sums what is counted for a backend over all CPUs.
func (d *Dataplane) counters(index uint32) (sum Counters) {
	var perCPU []balancerCounters
	if err := d.objects.Counters.Lookup(index, &perCPU); err != nil {
		d.log.Error("cannot read the counters of a backend", "index", index, "error", err)
		return Counters{}
	}
	for _, c := range perCPU {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		sum.NewFlows += c.NewFlows
		sum.Replies += c.Replies
	}
	return sum
}

// Packets returns how many packets were forwarded, both ways, by the backends that are there now.
func (d *Dataplane) Packets() (packets uint64) {
	d.mu.Lock()
	var indices []uint32
	for _, st := range d.state {
		for _, b := range st.backends {
			indices = append(indices, b.index)
		}
	}
	d.mu.Unlock() // the counters of very many take a while to read
	for _, index := range indices {
		c := d.counters(index)
		packets += c.Packets + c.Replies
	}
	return packets
}

// resetCounters makes the counters of a new backend start at 0.
func (d *Dataplane) resetCounters(index uint32) {
	zero := make([]balancerCounters, ebpf.MustPossibleCPU())
	if err := d.objects.Counters.Put(index, zero); err != nil {
		d.log.Error("cannot reset the counters of a backend", "index", index, "error", err)
	}
}

// Reasons returns how many packets ended in each way other than being forwarded, by name: "pass_" were
// left to the host's own stack, "drop_" were dropped, "answer_" were answered by the program itself.
func (d *Dataplane) Reasons() (map[string]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sums := make(map[string]uint64, len(d.names))
	for reason, name := range d.names {
		if r := balancerReason(reason); r == balancerReasonTO_BACKEND || r == balancerReasonTO_CLIENT {
			continue // counted for each backend
		}
		var perCPU []uint64
		if err := d.objects.Reasons.Lookup(uint32(reason), &perCPU); err != nil {
			return nil, fmt.Errorf("reading the counter of %s: %w", name, err)
		}
		for _, count := range perCPU {
			sums[name] += count
		}
	}
	return sums, nil
}

// reasonNames reads the names of enum reason out of the program's types, in lower case.
func reasonNames(spec *ebpf.CollectionSpec) ([]string, error) {
	var enum *btf.Enum
	if err := spec.Types.TypeByName("reason", &enum); err != nil {
		return nil, fmt.Errorf("finding enum reason: %w", err)
	}
	names := make([]string, balancerReasonREASON_COUNT)
	for _, value := range enum.Values {
		if value.Value < uint64(len(names)) {
			names[value.Value] = strings.ToLower(value.Name)
		}
	}
	return names, nil
}
