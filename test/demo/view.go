package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	repaintEvery = 200 * time.Millisecond
	lineEvery    = time.Second
	barWidth     = 28
)

// snapshot is what the view shows of one moment.
type snapshot struct {
	Summary         // until now
	elapsed         time.Duration
	perSecond       int // requests that ended in the last second
	failedPerSecond int
	backends        []backendShare
}

// backendShare is one backend in the last second.
type backendShare struct {
	name, state string
	answered    int
	share       float64 // of all that were answered, 0..1
	flows       int     // long-lived ones that are alive
}

// stateAfter is how a backend is called after what happened to it.
var stateAfter = map[Kind]string{Kill: "killed", LinkDown: "link down", Drain: "draining"}

// snapshot looks at the last second.
func (p *play) snapshot(now time.Time) snapshot {
	began, samples, events := p.traffic.all()
	s := snapshot{Summary: summarize(began, samples, events, now), elapsed: now.Sub(began)}
	answered := make(map[string]int)
	total := 0
	for _, x := range samples {
		if now.Sub(x.End) > time.Second {
			continue
		}
		s.perSecond++
		if x.Err != nil {
			s.failedPerSecond++
		} else {
			answered[x.Backend]++
			total++
		}
	}
	flows := make(map[string]int)
	for _, f := range p.flows {
		if f.alive(now) {
			flows[f.Backend()]++
		}
	}
	states := make(map[string]string)
	for _, e := range events {
		states[e.backend] = stateAfter[e.kind]
	}
	for _, b := range p.site.backends {
		share := backendShare{name: b.name, state: "up", answered: answered[b.name], flows: flows[b.name]}
		if state, ok := states[b.name]; ok {
			share.state = state
		}
		share.share = float64(share.answered) / float64(max(total, 1))
		s.backends = append(s.backends, share)
	}
	return s
}

// watch shows what happens until the function that it returns is called.
func watch(p *play, o Options) (stop func()) {
	every, show := lineEvery, showLine
	if o.Live {
		every, show = repaintEvery, repaint()
	}
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ending:
				return
			case now := <-ticker.C:
				show(o.Progress, p.snapshot(now))
			}
		}
	}()
	return func() {
		close(ending)
		<-ended
	}
}

// showLine prints a moment on one line.
func showLine(w io.Writer, s snapshot) {
	var line strings.Builder
	fmt.Fprintf(&line, "%5.1fs %4d requests/s, %d failed ", s.elapsed.Seconds(), s.perSecond, s.failedPerSecond)
	for _, b := range s.backends {
		fmt.Fprintf(&line, "  %s %3.0f %%", b.name, b.share*100)
	}
	if n := len(s.Events); n > 0 {
		fmt.Fprintf(&line, "  %s", s.Events[n-1].describe())
	}
	fmt.Fprintln(w, line.String())
}

// describe returns for example "10.0s link_down b2: longest gap 32 ms, 29 failed".
func (e *EventSummary) describe() string {
	return fmt.Sprintf("%.1fs %s %s: longest gap %.0f ms, %d failed", e.AtS, e.Event, e.Backend, e.GapMS, e.Failed)
}

// repaint returns a function that keeps a picture current on a terminal (control sequences of ECMA-48).
func repaint() func(io.Writer, snapshot) {
	height := 0
	return func(w io.Writer, s snapshot) {
		text := picture(s)
		up := ""
		if height > 0 {
			up = fmt.Sprintf("\x1b[%dA", height) // cursor up
		}
		height = strings.Count(text, "\n")
		// Each line is erased to its end, and what is below the picture too.
		fmt.Fprint(w, up+strings.ReplaceAll(text, "\n", "\x1b[K\n")+"\x1b[J")
	}
}

func picture(s snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  client -- balancer (XDP, nat) -- switch -- 4 backends, IPv4 and IPv6 %6.1fs\n\n", s.elapsed.Seconds())
	fmt.Fprintf(&b, "  %-8s %-10s %10s  %-*s %6s %7s\n", "BACKEND", "STATE", "REQUESTS/S", barWidth, "SHARE", "", "FLOWS")
	for _, x := range s.backends {
		bar := strings.Repeat("█", int(x.share*barWidth+0.5))
		fmt.Fprintf(&b, "  %-8s %-10s %10d  %-*s %4.0f %% %7d\n", x.name, x.state, x.answered, barWidth, bar, x.share*100, x.flows)
	}
	fmt.Fprintf(&b, "\n  %d requests, %d/s, %d failed\n", s.Requests, s.perSecond, s.Failed)
	for _, e := range s.Events {
		fmt.Fprintf(&b, "  %s\n", e.describe())
	}
	return b.String()
}
