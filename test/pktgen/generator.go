package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// folder has pktgen's files, of the network namespace of this process (Documentation/networking/pktgen.rst of the kernel).
const folder = "/proc/net/pktgen"

// generator is the kernel's pktgen. It has one configuration for all of a network namespace, so one generator at a
// time may be used in it.
type generator struct {
	threads []string // the files of the kernel's threads, one a processor, in the processors' order
}

// open loads the module where it is not.
func open() (*generator, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the kernel's packet generator needs root: run this with sudo")
	}
	if _, err := os.Stat(folder); err != nil {
		if out, err := exec.Command("modprobe", "pktgen").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("this kernel has no packet generator (CONFIG_NET_PKTGEN; Debian's kernels have it as the module pktgen): modprobe pktgen: %w %s",
				err, strings.TrimSpace(string(out)))
		}
	}
	threads, err := filepath.Glob(filepath.Join(folder, "kpktgend_*"))
	if err != nil || len(threads) == 0 {
		return nil, errors.Join(fmt.Errorf("%s has no files of threads, though pktgen is loaded", folder), err)
	}
	number := func(file string) int {
		n, _ := strconv.Atoi(file[strings.LastIndexByte(file, '_')+1:])
		return n
	}
	slices.SortFunc(threads, func(a, b string) int { return number(a) - number(b) })
	return &generator{threads}, nil
}

// write gives one command to a file of pktgen.
func write(file, command string) error {
	if err := os.WriteFile(file, []byte(command+"\n"), 0); err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("pktgen refuses %q for %s: %w", command, filepath.Base(file), err)
	}
	return nil
}

func instruct(command string) error { return write(filepath.Join(folder, "pgctrl"), command) }

// send sends a load, and returns when all threads have ended. When ctx ends they are stopped, which is no error.
func (g *generator) send(ctx context.Context, t target, l load) (sent, error) {
	if l.Threads > len(g.threads) {
		return sent{}, fmt.Errorf("--threads: %d is more than the %d processors", l.Threads, len(g.threads))
	}
	if err := instruct("reset"); err != nil {
		return sent{}, err
	}
	defer func() { _ = instruct("reset") }() // nothing of it is left in the kernel
	var devices []string
	for n, thread := range g.threads[:l.Threads] {
		name := fmt.Sprintf("%s@%d", t.device, n) // an interface is added to several threads by such names
		if err := write(thread, "add_device "+name); err != nil {
			return sent{}, err
		}
		device := filepath.Join(folder, name)
		for _, command := range l.commands(t, n) {
			if err := write(device, command); err != nil {
				return sent{}, err
			}
		}
		devices = append(devices, device)
	}
	if err := start(ctx, l); err != nil {
		return sent{}, err
	}
	return collect(devices, l)
}

// start runs the threads until they have sent what they shall, or time is up.
func start(ctx context.Context, l load) error {
	ended := make(chan error, 1)
	go func() { ended <- instruct("start") }() // returns when no thread sends any more
	var up <-chan time.Time
	if l.Packets == 0 {
		timer := time.NewTimer(l.duration)
		defer timer.Stop()
		up = timer.C
	}
	select {
	case err := <-ended:
		return err
	case <-up:
	case <-ctx.Done():
	}
	return errors.Join(instruct("stop"), <-ended)
}

// collect sums up what the threads have sent.
func collect(devices []string, l load) (sum sent, err error) {
	var started, stopped uint64
	for _, device := range devices {
		text, err := os.ReadFile(device)
		if err != nil {
			return sum, err
		}
		d, err := parseDevice(string(text))
		if err != nil {
			return sum, fmt.Errorf("reading %s: %w", device, err)
		}
		sum.Sent += d.packets
		sum.Errors += d.errors
		if started == 0 || d.started < started {
			started = d.started
		}
		stopped = max(stopped, d.stopped)
	}
	if sum.Sent == 0 || stopped <= started {
		return sum, fmt.Errorf("pktgen sent nothing (%d errors): is the interface up?", sum.Errors)
	}
	sum.Seconds = float64(stopped-started) / 1e6
	sum.PerSecond = float64(sum.Sent) / sum.Seconds
	sum.Megabits = sum.PerSecond * float64(l.Size) * 8 / 1e6
	return sum, nil
}

// device is what one thread has done. Times are microseconds of a clock of the kernel.
type device struct{ packets, errors, started, stopped uint64 }

var devicePattern = regexp.MustCompile(`pkts-sofar: (\d+)\s+errors: (\d+)\s+started: (\d+)us\s+stopped: (\d+)us`)

func parseDevice(text string) (device, error) {
	match := devicePattern.FindStringSubmatch(text)
	if match == nil {
		return device{}, errors.New("it has no line with pkts-sofar; another version of pktgen?")
	}
	var numbers [4]uint64
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.ParseUint(match[i+1], 10, 64); err != nil {
			return device{}, err
		}
	}
	return device{numbers[0], numbers[1], numbers[2], numbers[3]}, nil
}
