package day

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/stage"
)

// looks is how often it is looked at the backends.
const looks = 100 * time.Millisecond

// watch notes how many backends there are until a time, and tells what changes.
func (d *day) watch(ctx context.Context, until time.Time) error {
	var before control.ScaleStatus
	for time.Now().Before(until) {
		all, err := d.Client.Scale(ctx)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			d.note(&before, &all[0])
		}
		if err := stage.Sleep(ctx, looks); err != nil {
			return err
		}
	}
	return nil
}

func (d *day) note(before, now *control.ScaleStatus) {
	clock := midnight.Add(d.ofDay()).Format("15:04")
	load := "?"
	if now.Load != nil {
		load = fmt.Sprintf("%.0f", *now.Load)
	}
	if now.Learnt && !before.Learnt {
		fmt.Fprintf(d.say, "%s  the daemon has learnt what a day is like\n", clock)
	}
	if now.Backends != before.Backends || now.Ready != before.Ready {
		text := ""
		if now.Backends > before.Backends && len(now.Reasons) > 0 {
			text = ": " + now.Reasons[0]
		}
		fmt.Fprintf(d.say, "%s  %4s requests/s  %2d backends serve, %2d there or ordered%s\n", clock, load, now.Ready, now.Backends, text)
	}
	*before = *now
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	d.seen.fleet = append(d.seen.fleet, moment{time.Now(), now.Ready, now.Backends, now.Predictive})
}
