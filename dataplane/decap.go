package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/rlimit"
)

// AttachDecap puts the program that takes off outer headers on an interface of a backend, in the network
// namespace of the calling thread. It stays when the process ends, until DetachDecap.
func AttachDecap(name string, mode XDPMode, pinPath string) (Interface, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return Interface{}, err
	}
	if err := preparePinPath(pinPath); err != nil {
		return Interface{}, err
	}
	netdev, err := interfaceByName(name)
	if err != nil {
		return Interface{}, err
	}
	var objects decapObjects
	if err := loadDecapObjects(&objects, nil); err != nil {
		return Interface{}, fmt.Errorf("loading the decapsulator: %w", err)
	}
	defer objects.Close()
	a, err := attach(netdev, mode, objects.Decap, filepath.Join(pinPath, decapFolder))
	if a != nil {
		defer a.link.Close()
	}
	if err != nil {
		return Interface{}, err
	}
	return a.describe()
}

// DetachDecap takes the program off an interface. It returns an error that wraps os.ErrNotExist when the
// program is not there.
func DetachDecap(name, pinPath string) error {
	folder, index := filepath.Join(pinPath, decapFolder), 0
	if netdev, err := net.InterfaceByName(name); err == nil {
		index = netdev.Index
	}
	l, err := findLink(folder, index)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("no decapsulator on interface %s is pinned in %s: %w", name, folder, os.ErrNotExist)
	}
	if err := removeLink(l); err != nil {
		return err
	}
	// The folders go with the last pin in them.
	for _, folder := range []string{folder, pinPath} {
		if err := os.Remove(folder); err != nil {
			if names, _ := pins(folder); len(names) > 0 {
				return nil
			}
			return errors.Join(err)
		}
	}
	return nil
}
