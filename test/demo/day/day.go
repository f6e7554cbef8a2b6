// Package day is what `sluice demo scale` shows: a day of a service in two minutes, whose backends are started before its peak and
// ended after it. Everything is real but the calendar: the daemon, which has a past to learn from, the traffic, and the processes that an
// executor starts in network namespaces of their own.
package day

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// Options of Run.
type Options struct {
	Executable string    // the sluice program, which is started as daemon, as executor and as backend
	Progress   io.Writer // is told what happens
}

// ErrLeftovers means that something could not be removed in the end; the message says what.
var ErrLeftovers = errors.New("the demo left something behind")

// The calendar. It begins on a Wednesday, and the traffic ends late in the evening.
const (
	speed   = 480 // a day passes in three minutes
	begins  = 4 * time.Hour
	ends    = 22 * time.Hour
	peaksAt = 13 * time.Hour
	past    = 21 * 24 * time.Hour // that is known
)

// The traffic, in requests per second of the wall clock.
const (
	quiet, busy = 60.0, 400.0 // at night, and at the peak
	varies      = 0.05        // from minute to minute
)

var midnight = time.Date(2026, time.March, 4, 0, 0, 0, 0, time.UTC)

// rate returns how many requests come in a second at a time of the day.
func rate(ofDay time.Duration) float64 {
	return (busy+quiet)/2 + (busy-quiet)/2*math.Cos(2*math.Pi*(ofDay-peaksAt).Hours()/24)
}

// day is one run.
type day struct {
	*site
	began time.Time // of the calendar, by the wall clock
	seen  recorder
	say   io.Writer
}

// ofDay returns the calendar's time of the day.
func (d *day) ofDay() time.Duration { return begins + speed*time.Since(d.began) }

// at returns the wall clock's time of a time of the day.
func (d *day) at(ofDay time.Duration) time.Time { return d.began.Add((ofDay - begins) / speed) }

// Run plays the day and returns what was measured, which says in Broken whether anything was not as it should be. All that it makes is gone when it
// returns, also when ctx ends before. It needs root.
func Run(ctx context.Context, o Options) (_ Summary, err error) {
	if err := stage.CheckPrivileges("the demo", "sluice demo scale"); err != nil {
		return Summary{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fmt.Fprintf(o.Progress, "Making a client, the balancer, a switch and %d backends in network namespaces ...\n", fewest)
	d := &day{say: o.Progress}
	if d.site, err = newSite(o.Executable); err != nil {
		return Summary{}, err
	}
	defer func() {
		if left := d.Close(); left != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrLeftovers, left))
		}
	}()
	if err := d.begin(ctx); err != nil {
		return Summary{}, err
	}
	go func() {
		<-d.Daemon.Done()
		cancel(stage.Ended(d.Daemon))
	}()
	stopTraffic := d.traffic(ctx)
	watching := d.watch(ctx, d.at(ends))
	stopTraffic()
	if watching != nil {
		return Summary{}, stage.CauseOf(ctx, watching)
	}
	return d.summarize(), nil
}

// begin starts the daemon, and teaches it the past.
func (d *day) begin(ctx context.Context) error {
	for _, b := range d.network.Backends {
		if err := d.serve(ctx, b, 0); err != nil {
			return err
		}
	}
	if err := d.listen(ctx); err != nil {
		return err
	}
	d.began = time.Now()
	d.Flags = []string{"--calendar-speed", fmt.Sprint(speed), "--calendar-at", midnight.Add(begins).Format(time.RFC3339)}
	if err := d.StartDaemon(ctx, d.network.Balancer, d.executable, stage.Interfaces); err != nil {
		return err
	}
	if err := d.Apply(ctx, d.services(), readyWithin, stage.Unequal); err != nil {
		return err
	}
	imported, err := d.Client.ImportHistory(ctx, stage.ServiceName, "", history())
	if err != nil {
		return err
	}
	fmt.Fprintf(d.say, "It is 4 in the morning, and a day takes three minutes. The service has a past of %d minutes, from which the daemon learns ...\n", imported.Minutes)
	return nil
}
