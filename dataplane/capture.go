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

// ErrBusy means that somebody else does what only one can do at a time.
var ErrBusy = errors.New("busy")

// Filter says which packets Capture shows. The zero value is all.
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
	BeforeLength, AfterLength int // bytes of the whole frames
}

// captureBuffer holds some thousands of events, in bytes.
const captureBuffer = 16 << 20

// Capture shows packets until ctx ends or show returns false, which is called from one goroutine. For that time
// a program that shows them takes the place of the one on the interfaces. Returns how many fitting packets were
// not shown because show was too slow.
//
// Returns ErrBusy while another capture runs, ErrInvalid for a filter that nothing can match.
func (d *Dataplane) Capture(ctx context.Context, filter Filter, show func(Captured) bool) (lost uint64, err error) {
	c, err := d.newCapture(filter)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.endCapture(c)) }()
	stop := context.AfterFunc(ctx, func() { c.events.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := d.replacePrograms(c.objects.Balancer); err != nil {
		return 0, err
	}
	for ctx.Err() == nil {
		event, err := readEvent(c.events)
		if err != nil && ctx.Err() == nil {
			return 0, err
		}
		if err != nil || !show(d.captured(event, c.boot)) {
			break
		}
	}
	return lost, c.objects.CaptureLost.Get(&lost)
}

// capture is a program that shows packets.
type capture struct {
	objects balancerObjects
	events  *ringbuf.Reader
	boot    time.Time // when CLOCK_MONOTONIC was 0
}

// newCapture loads the program with the maps of the live one.
func (d *Dataplane) newCapture(filter Filter) (*capture, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.capturing {
		return nil, fmt.Errorf("%w: another capture is running", ErrBusy)
	}
	constants, err := d.captureConstants(filter)
	if err != nil {
		return nil, err
	}
	spec, err := d.spec(constants)
	if err != nil {
		return nil, err
	}
	spec.Maps["events"].MaxEntries = captureBuffer
	c := &capture{}
	if err := spec.LoadAndAssign(&c.objects, &ebpf.CollectionOptions{MapReplacements: d.liveMaps()}); err != nil {
		return nil, fmt.Errorf("loading the balancer that shows packets: %w", err)
	}
	if c.events, err = ringbuf.NewReader(c.objects.Events); err != nil {
		return nil, errors.Join(err, c.objects.Close())
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, errors.Join(err, c.events.Close(), c.objects.Close())
	}
	c.boot = time.Now().Add(-time.Duration(now.Nano()))
	d.capturing = true
	return c, nil
}

func (d *Dataplane) endCapture(c *capture) error {
	err := d.replacePrograms(d.objects.Balancer)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capturing = false
	return errors.Join(err, c.events.Close(), c.objects.Close())
}

func (d *Dataplane) captureConstants(filter Filter) (map[string]any, error) {
	constants := map[string]any{"capturing": uint8(1), "capture_every": max(filter.Every, 1)}
	if filter.Service != nil {
		st := d.state[*filter.Service]
		if st == nil {
			return nil, fmt.Errorf("%w %s: the kernel does not have it", ErrInvalid, filter.Service)
		}
		constants["capture_service"] = st.index
	}
	if filter.Reason != "" {
		reason := slices.Index(d.names, filter.Reason)
		if reason < 0 {
			return nil, fmt.Errorf("%w: %q is no reason (known: %s)", ErrInvalid, filter.Reason, strings.Join(d.names, ", "))
		}
		constants["capture_reason"] = uint32(reason)
	}
	return constants, nil
}

// liveMaps lists the maps that outlive the process.
func (d *Dataplane) liveMaps() map[string]*ebpf.Map {
	o := &d.objects
	live := sharedMaps(o)
	for name, m := range rememberedMaps(o) {
		live[name] = m
	}
	live["counters"], live["reasons"], live["error_budget"] = o.Counters, o.Reasons, o.ErrorBudget
	return live
}

// replacePrograms has all interfaces run a program, each from one packet to the next.
func (d *Dataplane) replacePrograms(program *ebpf.Program) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for name, a := range d.links {
		if err := a.link.Update(program); err != nil {
			errs = append(errs, fmt.Errorf("replacing the program on %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Dataplane) captured(e *balancerEvent, boot time.Time) Captured {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := Captured{
		Verdict:      d.verdict(e.Verdict, e.Action),
		Time:         boot.Add(time.Duration(e.Time)),
		Before:       e.FrameBefore[:min(int(e.Before), len(e.FrameBefore))],
		After:        e.FrameAfter[:min(int(e.After), len(e.FrameAfter))],
		BeforeLength: int(e.Before),
		AfterLength:  int(e.After),
	}
	for name, a := range d.links {
		if a.index == int(e.Ifindex) {
			c.Interface = name
		}
	}
	return c
}
