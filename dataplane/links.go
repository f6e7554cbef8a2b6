package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf/link"
)

// Links of programs to interfaces, pinned in a folder by the interface's index: names change.

// linkIndex returns the interface's index, 0 when the interface is gone.
func linkIndex(l link.Link) int {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return 0
	}
	return int(info.XDP().Ifindex)
}

// pinnedLinks opens the links of a folder, and removes those whose interfaces are gone.
func pinnedLinks(folder string) (links []link.Link, err error) {
	names, err := pins(folder)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		l, err := link.LoadPinnedLink(filepath.Join(folder, name), nil)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("adopting %s: %w", filepath.Join(folder, name), err))
		case linkIndex(l) == 0:
			errs = append(errs, removeLink(l))
		default:
			links = append(links, l)
		}
	}
	return links, errors.Join(errs...)
}

// findLink opens the pinned link to an interface. It returns nil when there is none.
func findLink(folder string, index int) (found link.Link, err error) {
	links, err := pinnedLinks(folder)
	for _, l := range links {
		if found == nil && linkIndex(l) == index {
			found = l
		} else {
			l.Close()
		}
	}
	if err != nil && found != nil {
		found.Close()
		return nil, err
	}
	return found, err
}

// pinLink pins a new link.
func pinLink(l link.Link, folder string, index int) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return l.Pin(filepath.Join(folder, strconv.Itoa(index)))
}

// removeLink takes the program of a pinned link off, and closes it.
func removeLink(l link.Link) error { return errors.Join(l.Detach(), l.Unpin(), l.Close()) }

// removeLinks removes all pinned links of a folder, and the folder.
func removeLinks(folder string) error {
	links, err := pinnedLinks(folder)
	errs := []error{err}
	for _, l := range links {
		errs = append(errs, removeLink(l))
	}
	if err := os.Remove(folder); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
