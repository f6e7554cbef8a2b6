package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// Signal is what a flow of a client tells of its backend.
type Signal struct {
	Kind      SignalKind
	Service   ServiceKey
	Backend   netip.AddrPort
	Flow      uint32 // hash of the client's tuple: the same in all signals of one flow
	At        time.Time
	Handshake time.Duration // since the flow's first SYN; 0 for SignalOpened and where none is timed
}

// SignalKind is what happened.
type SignalKind uint8

// The kinds of signals. But for the last, their values are those of enum signal_kind in headers/sluice.h.
const (
	SignalOpened      SignalKind = iota // a SYN went to the backend
	SignalRepeated                      // another SYN of the same handshake
	SignalAnswered                      // the client went on after its SYN, so the backend has answered
	SignalReset                         // the backend refused the handshake; mode nat only, like what follows
	SignalResetOpen                     // the backend reset an open connection, which some protocols do every time
	SignalUnreachable                   // an ICMP error says that a packet does not reach the backend

	// SignalMissed says that some signals are not told: what has become of a flow since its SignalOpened, which came
	// before this one, is not known. Its other fields are zero but for At.
	SignalMissed
)

var signalKindNames = names[SignalKind]{
	{SignalOpened, "opened"}, {SignalRepeated, "repeated"}, {SignalAnswered, "answered"}, {SignalReset, "reset"},
	{SignalResetOpen, "reset-open"}, {SignalUnreachable, "unreachable"}, {SignalMissed, "missed"},
}

// String returns for example "answered" or "reset-open".
func (k SignalKind) String() string { return signalKindNames.text(k) }

const (
	// signalBuffer holds 6,500 signals of 40 bytes, in bytes: more than a second's.
	signalBuffer = 256 << 10
	// maxHandshakes is how many handshakes are timed at once, in each family: those of the last 4 s at least.
	maxHandshakes = 4 * signalRate
	// signalPause lets some signals come together, so that a busy host is not woken for each.
	signalPause = time.Millisecond
)

// signalReader gives signals to a handler.
type signalReader struct {
	dataplane *Dataplane
	buffer    *ringbuf.Reader
	boot      time.Time
	handle    func(Signal)
	sampler   sampler
	lost      uint64 // of those that the program counts, so many are known
}

// Signals calls handle for each signal, in order, from this goroutine, until ctx ends or d is closed. Flows are
// watched only meanwhile: all of them as long as that makes at most 4,000 signals a second, otherwise a share, which
// Stats tells. Signals of backends that are gone are left out.
//
// Returns ErrBusy while another call runs.
func (d *Dataplane) Signals(ctx context.Context, handle func(Signal)) error {
	if err := d.beginSignals(); err != nil {
		return err
	}
	defer d.endSignals()
	boot, err := bootTime()
	if err != nil {
		return err
	}
	buffer, err := ringbuf.NewReader(d.objects.Signals)
	if err != nil {
		return fmt.Errorf("reading signals: %w", err)
	}
	defer buffer.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-d.stop:
			cancel()
		case <-ctx.Done():
		}
		_ = buffer.Flush() // fails only when it is closed
	}()
	_, lost := d.sampledNow()
	r := &signalReader{dataplane: d, buffer: buffer, boot: boot, handle: handle, sampler: newSampler(time.Now()), lost: lost}
	return r.run(ctx)
}

func (d *Dataplane) beginSignals() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.signals {
		return fmt.Errorf("%w: signals are read already", ErrBusy)
	}
	d.signals = true
	return nil
}

func (d *Dataplane) endSignals() {
	d.sample(0, time.Now())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.signals = false
}

// run reads until ctx ends.
func (r *signalReader) run(ctx context.Context) error {
	var record ringbuf.Record
	r.dataplane.sample(r.sampler.every, time.Now())
	for ctx.Err() == nil {
		r.buffer.SetDeadline(r.sampler.due)
		err := r.buffer.ReadInto(&record)
		switch {
		case err == nil && len(record.RawSample) >= int(unsafe.Sizeof(balancerSignal{})):
			r.tell((*balancerSignal)(unsafe.Pointer(&record.RawSample[0])))
			r.adapt(1)
		case err == nil:
			return fmt.Errorf("a signal has %d bytes", len(record.RawSample))
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.adapt(0)
		case !errors.Is(err, ringbuf.ErrFlushed):
			return fmt.Errorf("reading signals: %w", err)
		}
		if r.buffer.AvailableBytes() == 0 {
			time.Sleep(signalPause)
		}
	}
	return nil
}

// tell translates a signal and has it handled. Those of a flow that is not watched any more are left out, since
// the program may not tell the rest of them.
func (r *signalReader) tell(s *balancerSignal) {
	if s.Flow&(r.sampler.every-1) != 0 {
		return
	}
	service, backend, ok := r.dataplane.whose(s.Backend, s.Generation)
	if ok {
		r.handle(Signal{
			Kind: SignalKind(s.Kind), Service: service, Backend: backend, Flow: s.Flow,
			At: r.boot.Add(time.Duration(s.Time)), Handshake: time.Duration(s.Duration),
		})
	}
}

// adapt notes that so many signals came, and changes which flows are watched.
func (r *signalReader) adapt(came int) {
	_, lost := r.dataplane.sampledNow()
	now, before := time.Now(), r.sampler
	r.sampler.note(now, came, lost > r.lost)
	if r.sampler.due != before.due { // another second begins, perhaps with another share
		r.dataplane.sample(r.sampler.every, now)
	}
	if lost > r.lost || r.sampler.every > before.every {
		r.handle(Signal{Kind: SignalMissed, At: now})
	}
	r.lost = lost
}

// whose names the backend that has an index, if it is still the one that had it.
func (d *Dataplane) whose(index uint32, generation uint16) (ServiceKey, netip.AddrPort, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(index) >= len(d.backends.items) { // which are gone when d is closed
		return ServiceKey{}, netip.AddrPort{}, false
	}
	record := &d.backends.items[index]
	st, endpoint := d.byIndex[uint32(record.Service)], record.endpoint()
	if record.Generation != generation || st == nil {
		return ServiceKey{}, netip.AddrPort{}, false
	}
	b := st.backends[endpoint]
	return st.key, endpoint, b != nil && b.index == index
}

// sample has one flow of so many watched, 0 is none, and tells the program the time.
func (d *Dataplane) sample(every uint32, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sampling.items) > 0 { // not closed
		s := &d.sampling.items[0]
		atomic.StoreUint32(&s.Every, every)
		atomic.StoreUint32(&s.Second, uint32(now.Unix()))
	}
}

// sampled tells that number, and how many signals found the buffer full. d.mu must be held.
func (d *Dataplane) sampled() (every uint32, lost uint64) {
	if len(d.sampling.items) == 0 { // closed
		return 0, 0
	}
	s := &d.sampling.items[0]
	return atomic.LoadUint32(&s.Every), atomic.LoadUint64(&s.Lost)
}

// sampledNow is sampled for those that do not hold d.mu.
func (d *Dataplane) sampledNow() (every uint32, lost uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sampled()
}
