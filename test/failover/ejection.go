package failover

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/stage"
)

const (
	// cpuLoad is the part of each processor, 0..1, that is kept busy in the run without faults.
	cpuLoad = 0.95
	// busyPeriod is how often a busy process pauses. It is longer than the kernel's time slices, so that it competes
	// as any other process does.
	busyPeriod    = 100 * time.Millisecond
	statusEvery   = 100 * time.Millisecond
	progressEvery = time.Minute
)

// BusyCommand is the command of the sluice program that calls RunBusy with its argument.
const BusyCommand = "bench-busy"

// RunBusy keeps one processor busy with cpuLoad until ctx ends.
func RunBusy(ctx context.Context, processor int) error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(processor)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("staying on processor %d: %w", processor, err)
	}
	for ctx.Err() == nil {
		for begin := time.Now(); time.Since(begin) < time.Duration(cpuLoad*float64(busyPeriod)); {
		}
		time.Sleep(time.Duration((1 - cpuLoad) * float64(busyPeriod)))
	}
	return nil
}

// FalseEjections keeps the processors busy for so long, for each profile, and counts how often a backend's state
// changes though none fails. The load is the balancer's: the backends run before it. All that it makes is gone when it returns, also when ctx ends before. It needs root.
func FalseEjections(ctx context.Context, o Options, duration time.Duration) (Report, error) {
	fmt.Fprintf(o.Progress, "%v for each of the profiles %v, with %.0f %% load on every processor\n", duration, o.Profiles, cpuLoad*100)
	total := Ejections{}
	for _, profile := range o.Profiles {
		err := o.onSite(ctx, o.Mode, o.contend(profile), func(ctx context.Context, b *bench) error {
			count, err := o.countChanges(ctx, b.site, profile, duration)
			total.Count += count
			return err
		})
		if err != nil {
			return Report{}, err
		}
		total.Minutes += duration.Minutes()
	}
	return Report{Profiles: map[string]map[Fault]Result{}, FalseEjections: &total}, nil
}

// countChanges counts the changes of state on a site whose processors are busy.
func (o Options) countChanges(ctx context.Context, s *site, profile string, duration time.Duration) (int, error) {
	if err := s.favourBackends(); err != nil {
		return 0, err
	}
	for _, processor := range processors() {
		if _, err := s.network.Balancer.Command(ctx, o.Executable, BusyCommand, strconv.Itoa(processor)); err != nil {
			return 0, err
		}
	}
	count, states := 0, make(map[string]state)
	told, end := time.Now(), time.Now().Add(duration)
	for now := told; now.Before(end); now = time.Now() {
		status, err := s.Client.Status(ctx)
		if err != nil {
			return 0, err
		}
		count += changes(states, status)
		if now.Sub(told) >= progressEvery {
			told = now
			fmt.Fprintf(o.Progress, "%-8s %v to go, %d changes of state\n", profile, end.Sub(now).Round(time.Second), count)
		}
		if err := stage.Sleep(ctx, statusEvery); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// state is that of one backend. A change and its undoing between two looks show by the time.
type state struct {
	state control.State
	since time.Time
}

// changes counts what differs from the states before, and notes those of now.
func changes(before map[string]state, status control.Status) int {
	count := 0
	for _, service := range status.Services {
		for _, b := range service.Backends {
			now := state{b.State, b.Since}
			if old, known := before[b.Name]; known && (old.state != now.state || !old.since.Equal(now.since)) {
				count++
			}
			before[b.Name] = now
		}
	}
	return count
}

// processors lists those that this process may use.
func processors() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return []int{0}
	}
	var numbers []int
	for n := 0; len(numbers) < set.Count(); n++ {
		if set.IsSet(n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
