package failover

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stallTick  = 2 * time.Millisecond
	stallLeast = 3 * time.Millisecond // what is told
	// stallWitness names the processor that this program, started again, is to watch.
	stallWitness = "SLUICE_STALL_WITNESS"
)

func TestMain(m *testing.M) {
	if processor := os.Getenv(stallWitness); processor != "" {
		fmt.Fprintln(os.Stderr, witnessStalls(processor))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// witnessStalls tells on standard output when a processor runs nothing for some time, not even what has the daemon's and the
// backends' priority: probes then fail of backends that are well. It is a process of its own because a thread that has
// favour still waits for others of its process that have not.
func witnessStalls(processor string) error {
	runtime.LockOSThread()
	number, err := strconv.Atoi(processor)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(number)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	if err := favourThread(0); err != nil {
		return err
	}
	for {
		began := time.Now()
		tick := unix.NsecToTimespec(int64(stallTick))
		_ = unix.Nanosleep(&tick, nil) // a signal ends it early
		if late := time.Since(began) - stallTick; late > stallLeast {
			if _, err := fmt.Println(began.UnixNano(), int64(late)); err != nil {
				return err
			}
		}
	}
}

// watchStalls takes what a witness tells until ctx ends.
func (c *churn) watchStalls(ctx context.Context, processor int) error {
	witness := exec.CommandContext(ctx, "/proc/self/exe")
	witness.Env = append(os.Environ(), stallWitness+"="+strconv.Itoa(processor))
	witness.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	told, err := witness.StdoutPipe()
	if err != nil {
		return err
	}
	if err := witness.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(told); lines.Scan(); {
		var began, late int64
		if _, err := fmt.Sscan(lines.Text(), &began, &late); err != nil {
			return err
		}
		if c.model.stall(time.Unix(0, began), time.Duration(late)) {
			c.stalls.Add(1)
			c.longest.Store(max(c.longest.Load(), late))
		}
	}
	if err := witness.Wait(); ctx.Err() == nil {
		return fmt.Errorf("the witness of processor %d ended: %w", processor, err)
	}
	return nil
}
