package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// kernelFeatures are those that Sluice uses.
var kernelFeatures = []struct {
	name  string
	since string // the first kernel that has it
	probe func() error
}{
	{"BTF", "5.4 with CONFIG_DEBUG_INFO_BTF", haveBTF},
	{"XDP programs", "4.8", func() error { return features.HaveProgramType(ebpf.XDP) }},
	{"bounded loops", "5.3", features.HaveBoundedLoops},
	{"LRU maps", "4.10", func() error { return features.HaveMapType(ebpf.LRUHash) }},
	{"device maps", "5.4", func() error { return features.HaveMapType(ebpf.DevMapHash) }},
	{"memory-mapped arrays", "5.5", func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }},
	{"BPF links", "5.9", haveLinks},
}

// checkKernel asks the kernel for every feature, whatever its version.
func checkKernel(*patient) ([]Finding, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	var findings []Finding
	for _, f := range kernelFeatures {
		err := f.probe()
		switch {
		case err == nil:
		case errors.Is(err, ebpf.ErrNotSupported):
			findings = append(findings, Finding{
				Severity: Error, Object: "kernel " + release(), Command: "apt-get install linux-image-amd64",
				Problem: fmt.Sprintf("it has no %s, which came with %s", f.name, f.since),
			})
		default:
			return findings, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return findings, nil
}

func release() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // cannot fail
	return unix.ByteSliceToString(name.Release[:])
}

func haveBTF() error {
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	if errors.Is(err, os.ErrNotExist) {
		return ebpf.ErrNotSupported
	}
	return err
}

// haveLinks makes a link to no interface. A kernel that knows links refuses the interface.
func haveLinks() error {
	pass := asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: pass})
	if err != nil {
		return err
	}
	defer program.Close()
	const nowhere = 1<<31 - 1
	_, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: nowhere})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// checkBPFFS wants a place for pinned objects.
func checkBPFFS(p *patient) ([]Finding, error) {
	path := "/sys/fs/bpf"
	switch {
	case p.status != nil:
		path = p.status.PinPath
	case p.Config != nil:
		path = p.Config.PinPath
	}
	var fs unix.Statfs_t
	there := path
	for err := unix.Statfs(there, &fs); err != nil; err = unix.Statfs(there, &fs) {
		if there == "/" || !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		there = filepath.Dir(there)
	}
	if fs.Type == unix.BPF_FS_MAGIC {
		return nil, nil
	}
	return []Finding{{
		Severity: Warning, Object: path, Command: "mount -t bpf bpf /sys/fs/bpf",
		Problem: "no BPF file system is mounted here: without it nothing survives the daemon",
	}}, nil
}
