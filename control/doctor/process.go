package doctor

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var errNoProcess = errors.New("the daemon's process is not visible from here")

// checkNamespace wants to be where the daemon is: everything else would be about another network.
func checkNamespace(p *patient) ([]Finding, error) {
	if p.pid == 0 {
		return nil, errNoProcess
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	daemon, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid))
	if err != nil || own == daemon {
		return nil, err
	}
	return []Finding{{
		Severity: Error, Object: "daemon", Command: fmt.Sprintf("nsenter -t %d -n sluice doctor", p.pid),
		Problem: "it runs in another network namespace than this command, whose other findings are about the wrong network",
	}}, nil
}

// spareFiles is what a daemon opens besides one connection per probe: maps, links, sockets, the store.
const spareFiles = 256

// checkLimits looks at what the daemon may use.
func checkLimits(p *patient) ([]Finding, error) {
	if p.pid == 0 {
		return nil, errNoProcess
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.pid))
	if err != nil {
		return nil, err
	}
	var findings []Finding
	backends := p.status.Tables.BackendsUsed
	if files := softLimit(text, "Max open files"); files < uint64(spareFiles+backends) {
		findings = append(findings, Finding{
			Severity: Warning, Object: "daemon", Command: fmt.Sprintf("prlimit --pid %d --nofile=65536", p.pid),
			Problem: fmt.Sprintf("it may open %d files, too few to probe %d backends (for good: LimitNOFILE=65536 in its unit)", files, backends),
		})
	}
	if memory := softLimit(text, "Max locked memory"); memory != unix.RLIM_INFINITY && memlockCharged() {
		findings = append(findings, Finding{
			Severity: Warning, Object: "daemon", Command: fmt.Sprintf("prlimit --pid %d --memlock=unlimited", p.pid),
			Problem: fmt.Sprintf("it may lock %d bytes of memory, to which this kernel charges BPF maps (for good: LimitMEMLOCK=infinity in its unit)", memory),
		})
	}
	return findings, nil
}

// softLimit reads one line of proc_pid_limits(5).
func softLimit(text []byte, name string) uint64 {
	match := regexp.MustCompile(`(?m)^` + name + ` +(\d+)`).FindSubmatch(text)
	if match == nil {
		return unix.RLIM_INFINITY
	}
	limit, _ := strconv.ParseUint(string(match[1]), 10, 64) // the kernel writes numbers that fit
	return limit
}

// memlockCharged says whether the kernel charges BPF maps to RLIMIT_MEMLOCK rather than to a memory cgroup.
func memlockCharged() bool {
	var before unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before) != nil ||
		unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: before.Max}) != nil {
		return false
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before) }()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return true
	}
	m.Close()
	return false
}
