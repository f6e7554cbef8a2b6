package stage

import (
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// CountFlows counts the flows of one IP version that the program whose maps are pinned there remembers.
func CountFlows(pins string, ipv6 bool) (int, error) {
	name := "flows4"
	if ipv6 {
		name = "flows6"
	}
	flows, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("opening the flow table: %w", err)
	}
	defer flows.Close()
	var key, value []byte
	count, entries := 0, flows.Iterate()
	for entries.Next(&key, &value) {
		count++
	}
	return count, entries.Err()
}
