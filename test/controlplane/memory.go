package controlplane

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memory is what a process holds in memory, in MiB.
type memory struct {
	resident float64 // all of it, what `ps` calls RSS
	maps     float64 // of the kernel's tables, which are there whoever looks at them: BPF maps that the process has mapped
	own      float64 // that nobody else has: heap and stacks
	peak     float64 // the highest resident since the process started
}

// memoryOf reads it, see proc_pid_smaps(5). BPF maps are mapped from a file that the kernel calls anon_inode:bpf-map.
func memoryOf(pid int) (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return m, err
	}
	var name string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch key := fields[0]; {
		case !strings.HasSuffix(key, ":"): // the head of a mapping
			name = ""
			if len(fields) > 5 {
				name = fields[5]
			}
		case key == "Rss:":
			mib, err := mebibytes(fields[1])
			if err != nil {
				return m, err
			}
			m.resident += mib
			if strings.HasPrefix(name, "anon_inode:bpf-map") {
				m.maps += mib
			}
		case key == "Anonymous:":
			mib, err := mebibytes(fields[1])
			if err != nil {
				return m, err
			}
			m.own += mib
		}
	}
	if m.peak, err = peakOf(pid); err != nil {
		return m, err
	}
	return m, lines.Err()
}

func peakOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
	}
	return mebibytes(fields[0])
}

// mebibytes converts a number of KiB.
func mebibytes(kib string) (float64, error) {
	n, err := strconv.Atoi(kib)
	return float64(n) / 1024, err
}

// clockTick is the unit of times in /proc/PID/stat: USER_HZ is 100 everywhere but on alpha.
const clockTick = 10 * time.Millisecond

// processorTime returns how much of the processors a process has used, see proc_pid_stat(5).
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(after)                // from the third one on
	var total time.Duration
	for _, number := range []int{14, 15} { // utime and stime
		ticks, err := strconv.Atoi(fields[number-3])
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * clockTick
	}
	return total, nil
}
