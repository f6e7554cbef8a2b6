package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

var (
	// ErrBusy means that somebody else does what only one can do at a time.
	ErrBusy = errors.New("busy")
	// ErrFilter means that nothing can match a Filter.
	ErrFilter = errors.New("invalid filter")
)

// Filter says which packets a Capture shows. The zero value is all.
type Filter struct {
	Service *ServiceKey // nil: of every service and of none
	Reason  string      // one of the names of Reasons, "to_backend" or "to_client"; "": every one
	Every   uint32      // of the packets that fit, one of so many, by chance; 0 is 1
}

// Captured is a packet as it came and as it left. Of frames longer than 2,048 bytes the rest is missing.
type Captured struct {
	Verdict
	Time                      time.Time
	Interface                 string // that it came in by
	Before, After             []byte
	BeforeLength, AfterLength int    // bytes of the whole frames
	Lost                      uint64 // how many fitting packets were not shown so far, for they came too fast
}

// captureBuffer holds some thousands of events, in bytes.
const captureBuffer = 16 << 20

// Capture is a program that shows packets, in place of the one on the interfaces.
type Capture struct {
	dataplane *Dataplane
	objects   shownObjects
	balancer  balancerForms // that show
	events    *ringbuf.Reader
	boot      time.Time // when CLOCK_MONOTONIC was 0
}

// Capture begins to show packets. What it returns must be run, which ends it.
//
// Returns ErrBusy while another capture runs, ErrFilter for a filter that nothing can match.
func (d *Dataplane) Capture(filter Filter) (*Capture, error) {
	constants, err := d.beginCapture(filter)
	if err != nil {
		return nil, err
	}
	c, err := d.newCapture(constants) // takes a while, so nobody is held up meanwhile
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.capturing = false
		return nil, err
	}
	if err := d.replacePrograms(c.balancer); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// beginCapture keeps others from capturing. Returns the program's constants for the filter.
func (d *Dataplane) beginCapture(filter Filter) (map[string]any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.capturing {
		return nil, fmt.Errorf("%w: another capture is running", ErrBusy)
	}
	constants, err := d.captureConstants(filter)
	d.capturing = err == nil
	return constants, err
}

// Run shows packets until ctx ends or show, called from this goroutine, returns false; then the usual program
// takes its place again.
func (c *Capture) Run(ctx context.Context, show func(Captured) bool) (err error) {
	defer func() {
		c.dataplane.mu.Lock()
		defer c.dataplane.mu.Unlock()
		err = errors.Join(err, c.end())
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.events.Flush() }) // fails only when it is closed
	defer stop()
	for ctx.Err() == nil {
		event, err := readEvent(c.events)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err != nil || !show(c.captured(event)) {
			break
		}
	}
	return nil
}

// end puts the usual program back. d.mu must be held.
func (c *Capture) end() error {
	d := c.dataplane
	var err error
	if d.capturing { // not yet closed
		err = d.replacePrograms(d.balancer)
		d.capturing = false
	}
	return errors.Join(err, c.close())
}

// newCapture loads the program with the maps of the live one.
func (d *Dataplane) newCapture(constants map[string]any) (*Capture, error) {
	spec, err := d.spec(constants)
	if err != nil {
		return nil, err
	}
	spec.Maps["events"].MaxEntries = captureBuffer
	c := &Capture{dataplane: d}
	if err := spec.LoadAndAssign(&c.objects, &ebpf.CollectionOptions{MapReplacements: d.liveMaps()}); err != nil {
		return nil, fmt.Errorf("loading the balancer that shows packets: %w", err)
	}
	c.balancer.alone = c.objects.ShownBalancer
	if err := c.open(spec); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// open completes what newCapture has begun.
func (c *Capture) open(spec *ebpf.CollectionSpec) (err error) {
	if c.events, err = ringbuf.NewReader(c.objects.Events); err != nil {
		return err
	}
	if c.boot, err = bootTime(); err != nil {
		return err
	}
	if !c.dataplane.options.Share {
		return nil
	}
	maps := c.dataplane.liveMaps()
	maps["events"], maps[".bss"] = c.objects.Events, c.objects.Bss
	c.balancer.shared, err = loadShared(spec, "shown_balancer", maps)
	return err
}

// bootTime is when CLOCK_MONOTONIC, which programs tell time by, was 0.
func bootTime() (time.Time, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(-time.Duration(now.Nano())), nil
}

func (c *Capture) close() error {
	var err error
	if c.events != nil {
		err = c.events.Close()
	}
	return errors.Join(err, c.objects.Close(), c.balancer.shared.Close()) // the last may be nil
}

func (d *Dataplane) captureConstants(filter Filter) (map[string]any, error) {
	constants := map[string]any{"capture_every": max(filter.Every, 1)}
	if filter.Service != nil {
		st := d.state[*filter.Service]
		if st == nil {
			return nil, fmt.Errorf("%w: the kernel does not have %s", ErrFilter, filter.Service)
		}
		constants["capture_service"] = st.index
	}
	if filter.Reason != "" {
		reason := slices.Index(d.names, filter.Reason)
		if reason < 0 {
			return nil, fmt.Errorf("%w: %q is no reason (known: %s)", ErrFilter, filter.Reason, strings.Join(d.names, ", "))
		}
		constants["capture_reason"] = uint32(reason)
	}
	return constants, nil
}

// liveMaps lists the maps that all programs on the interfaces use.
func (d *Dataplane) liveMaps() map[string]*ebpf.Map {
	o := &d.objects.balancerMaps
	live := sharedMaps(o)
	for name, m := range rememberedMaps(o) {
		live[name] = m
	}
	live["counters"], live["reasons"], live["error_budget"] = o.Counters, o.Reasons, o.ErrorBudget
	live["handshakes4"], live["handshakes6"], live["awaited"] = o.Handshakes4, o.Handshakes6, o.Awaited
	live["sampling"], live["signals"] = o.Sampling, o.Signals
	return live
}

// replacePrograms has all interfaces run a program, each from one packet to the next.
// d.mu must be held.
func (d *Dataplane) replacePrograms(balancer balancerForms) error {
	d.running = balancer
	var errs []error
	for _, a := range d.links {
		var err error
		if a.link != nil {
			err = a.link.Update(balancer.alone)
		} else {
			err = d.share(a.index, false, balancer.shared)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("replacing the program on %s: %w", a.name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Capture) captured(e *balancerEvent) Captured {
	d := c.dataplane
	d.mu.Lock()
	defer d.mu.Unlock()
	shown := Captured{
		Verdict:      d.verdict(e.Verdict, e.Action),
		Time:         c.boot.Add(time.Duration(e.Time)),
		Before:       e.FrameBefore[:min(int(e.Before), len(e.FrameBefore))],
		After:        e.FrameAfter[:min(int(e.After), len(e.FrameAfter))],
		BeforeLength: int(e.Before),
		AfterLength:  int(e.After),
	}
	if a := d.links[int(e.Ifindex)]; a != nil {
		shown.Interface = a.name
	}
	if err := c.objects.CaptureLost.Get(&shown.Lost); err != nil {
		d.log.Error("cannot read how many packets were not shown", "error", err)
	}
	return shown
}
