package throughput

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// times are those of all processors together since the machine started, in seconds.
type times struct {
	busy    float64 // of everything: user, nice, system, irq and softirq; not idle, iowait and what the hypervisor took
	softirq float64
}

// readTimes reads the first line of /proc/stat (proc_stat(5)). The kernel counts whole ticks, of 4 ms where HZ is 250,
// for what runs when the tick comes: right on average over many.
func readTimes() (times, error) {
	const hertz = 100 // USER_HZ of the kernel's include/asm-generic/param.h
	const user, nice, system, irq, softirq, count = 1, 2, 3, 6, 7, 8
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return times{}, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < count {
		return times{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var seconds [count]float64
	for i := 1; i < count; i++ {
		ticks, err := strconv.ParseFloat(string(fields[i]), 64)
		if err != nil {
			return times{}, fmt.Errorf("/proc/stat begins with %q: %w", line, err)
		}
		seconds[i] = ticks / hertz
	}
	busy := seconds[user] + seconds[nice] + seconds[system] + seconds[irq] + seconds[softirq]
	return times{busy, seconds[softirq]}, nil
}

// observe returns what the machine does in a time, as a Sample without requests.
func observe(ctx context.Context, duration time.Duration) (Sample, error) {
	before, err := readTimes()
	if err != nil {
		return Sample{}, err
	}
	begin := time.Now()
	if err := stage.Sleep(ctx, duration); err != nil {
		return Sample{}, err
	}
	after, err := readTimes()
	return Sample{
		Seconds: time.Since(begin).Seconds(),
		CPU:     after.busy - before.busy,
		SoftIRQ: after.softirq - before.softirq,
	}, err
}
