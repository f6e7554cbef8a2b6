package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bpffs is where the BPF file system belongs; some hosts do not mount it.
const bpffs = "/sys/fs/bpf"

// preparePinPath makes the folder, mounting the BPF file system when that is what is missing.
func preparePinPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("pin path %q is not absolute", path)
	}
	if strings.HasPrefix(path, bpffs+"/") && !onBPF(bpffs) {
		if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mounting the BPF file system on %s: %w", bpffs, err)
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making the pin path: %w", err)
	}
	if !onBPF(path) {
		return fmt.Errorf("pin path %s is not in a BPF file system: choose one below %s", path, bpffs)
	}
	return nil
}

func onBPF(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// pins lists the names in a folder of pins, which may be absent.
func pins(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}
