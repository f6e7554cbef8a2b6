package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Protocol numbers under which the addresses of services are entered, with port 0, in services4 and
// services6: the program answers echo requests for them.
const (
	protocolICMP   Protocol = 1
	protocolICMPv6 Protocol = 58
)

// echoKey is the entry of an address.
func echoKey(address netip.Addr) ServiceKey {
	if address.Is4() {
		return ServiceKey{Address: address, Protocol: protocolICMP}
	}
	return ServiceKey{Address: address, Protocol: protocolICMPv6}
}

func (k ServiceKey) isEcho() bool { return k == echoKey(k.Address) }

// answerEcho has echo requests for an address answered. d.mu must be held.
func (d *Dataplane) answerEcho(address netip.Addr) error {
	key := echoKey(address)
	if err := d.serviceMap(key).Update(mapKey(key), uint32(0), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("answering echo requests for %s: %w", address, err)
	}
	return nil
}

// ignoreEcho undoes answerEcho when no service has the address any more. d.mu must be held.
func (d *Dataplane) ignoreEcho(address netip.Addr) error {
	for key := range d.state {
		if key.Address == address {
			return nil
		}
	}
	key := echoKey(address)
	if err := d.serviceMap(key).Delete(mapKey(key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("ignoring echo requests for %s: %w", address, err)
	}
	return nil
}
