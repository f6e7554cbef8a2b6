package dispatcher

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// root is the folder that all tools of a host pin their programs in.
func root() string { return filepath.Join(cmp.Or(os.Getenv("LIBXDP_BPFFS"), "/sys/fs/bpf"), "xdp") }

// folder is that of a dispatcher. The ID tells interfaces of several network namespaces apart.
func folder(index int, id ebpf.ProgramID) string {
	return filepath.Join(root(), fmt.Sprintf("dispatch-%d-%d", index, id))
}

// lock keeps other processes from the folder.
func lock() (unlock func(), err error) {
	if err := os.MkdirAll(root(), 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(root())
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", root(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// pinned opens the program in a place of a dispatcher.
func pinned(index int, id ebpf.ProgramID, place int) (*ebpf.Program, error) {
	return ebpf.LoadPinnedProgram(filepath.Join(folder(index, id), stub(place)+"-prog"), nil)
}

// pin keeps the programs of a dispatcher in their places.
func pin(index int, id ebpf.ProgramID, programs []Program, links []link.Link) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	path := folder(index, id)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	for i, p := range programs {
		if err := pinOne(filepath.Join(path, stub(i)), p.Program, links[i]); err != nil {
			return errors.Join(fmt.Errorf("pinning program %s in %s: %w", p.Name, path, err), os.RemoveAll(path))
		}
	}
	return nil
}

// pinOne leaves other pins of the program alone, where pinning the same handle again would move them.
func pinOne(path string, program *ebpf.Program, l link.Link) error {
	program, err := program.Clone()
	if err != nil {
		return err
	}
	defer program.Close()
	if err := program.Pin(path + "-prog"); err != nil {
		return err
	}
	return l.Pin(path + "-link")
}

// removeFolder lets go of a dispatcher that is not attached any more.
func removeFolder(index int, id ebpf.ProgramID) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	return os.RemoveAll(folder(index, id))
}

// Interfaces returns the indices of those of this network namespace that programs share.
func Interfaces() ([]int, error) {
	var indices []int
	err := eachFolder(func(index int, id ebpf.ProgramID) error {
		if now, _, err := attached(index); err == nil && now == id {
			indices = append(indices, index)
		}
		return nil
	})
	return indices, err
}

// Clean lets go of those of mine in dispatchers that can never run again: processes that were killed left them,
// and interfaces that are gone. What others have there stays.
func Clean(mine func(*ebpf.Program) bool) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	return eachFolder(func(index int, id ebpf.ProgramID) error {
		// A newer one may be about to be attached.
		if now, _, err := attached(index); err == nil && now != 0 && now <= id {
			return nil
		}
		for place := range MaxPrograms {
			p, err := pinned(index, id, place)
			if err != nil {
				continue
			}
			found := mine(p)
			p.Close()
			if !found {
				continue
			}
			path := filepath.Join(folder(index, id), stub(place))
			if err := errors.Join(os.Remove(path+"-link"), os.Remove(path+"-prog")); err != nil {
				return err
			}
		}
		if err := os.Remove(folder(index, id)); !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		return nil
	})
}

func eachFolder(do func(index int, id ebpf.ProgramID) error) error {
	entries, err := os.ReadDir(root())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		var index int
		var id ebpf.ProgramID
		if _, err := fmt.Sscanf(entry.Name(), "dispatch-%d-%d", &index, &id); err != nil {
			continue
		}
		if err := do(index, id); err != nil {
			return err
		}
	}
	return err
}
