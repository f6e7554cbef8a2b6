package controlplane

import (
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

// memoryOf reads it, see proc_pid_smaps(5). The sums are those of the kernel: a process that grows while its mappings are
// read one by one may be seen in part twice.
func memoryOf(pid int) (m memory, err error) {
	if err := readSizes(pid, "smaps_rollup", map[string]*float64{"Rss:": &m.resident, "Anonymous:": &m.own}); err != nil {
		return m, err
	}
	if err := readSizes(pid, "status", map[string]*float64{"VmHWM:": &m.peak}); err != nil {
		return m, err
	}
	m.maps, err = mapsOf(pid)
	return m, err
}

// readSizes fills in sizes by the keys that a file of a process has them under.
func readSizes(pid int, file string, sizes map[string]*float64) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if size := sizes[fields[0]]; size != nil {
			if *size, err = mebibytes(fields[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// mapsOf sums up the mappings of BPF maps, whose file the kernel calls anon_inode:bpf-map.
func mapsOf(pid int) (sum float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, err
	}
	ofMap := false
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch key := fields[0]; {
		case !strings.HasSuffix(key, ":"): // the head of a mapping
			ofMap = len(fields) > 5 && strings.HasPrefix(fields[5], "anon_inode:bpf-map")
		case key == "Rss:" && ofMap:
			size, err := mebibytes(fields[1])
			if err != nil {
				return 0, err
			}
			sum += size
		}
	}
	return sum, nil
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
