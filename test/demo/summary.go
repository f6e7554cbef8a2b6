package demo

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/test/stage"
)

// Kind is what happens to a backend.
type Kind string

// The events, in the order that they happen.
const (
	Kill     Kind = "kill"      // its process is killed
	LinkDown Kind = "link_down" // its link goes down at its own end: packets to it vanish
	Drain    Kind = "drain"     // it is drained through the API
)

// What must hold.
const (
	maxGap       = time.Second
	maxDeviation = 0.08 // of a backend's share from an equal one, before the first event
)

// Summary is what the demo measured.
type Summary struct {
	Requests         int                `json:"requests"`          // by the load, each from a new socket
	Failed           int                `json:"failed"`            // of them
	MovedConnections int                `json:"moved_connections"` // long-lived flows that changed or lost a backend which was alive
	Events           []EventSummary     `json:"events"`
	Distribution     map[string]float64 `json:"distribution"` // shares of the requests while all backends served, 0..1
	Classes          map[string]int     `json:"classes"`      // answered requests by kind of traffic
	Flows            int                `json:"flows"`        // long-lived
	Broken           []string           `json:"broken"`       // what was not as it must be, empty when all was
}

// EventSummary is what one event did, until the next one.
type EventSummary struct {
	Event        Kind    `json:"event"`
	Backend      string  `json:"backend"`
	AtS          float64 `json:"at_s"`           // since the traffic began
	GapMS        float64 `json:"gap_ms"`         // longest time without any answer
	Failed       int     `json:"failed"`         // requests
	LastFailedMS float64 `json:"last_failed_ms"` // from the event to the start of the last request that failed
}

func (s *Summary) broke(format string, args ...any) {
	s.Broken = append(s.Broken, fmt.Sprintf(format, args...))
}

// summarize sums up the load from began to end.
func summarize(began time.Time, samples []sample, events []event, end time.Time) Summary {
	slices.SortFunc(samples, func(a, b sample) int { return a.End.Compare(b.End) })
	s := Summary{
		Requests:     len(samples),
		Events:       []EventSummary{},
		Distribution: make(map[string]float64),
		Classes:      make(map[string]int),
		Broken:       []string{},
	}
	for _, class := range []string{"HTTP", "UDP"} {
		for _, f := range families {
			s.Classes[class+" "+f.name] = 0
		}
	}
	for _, x := range samples {
		if x.Err != nil {
			s.Failed++
		} else {
			s.Classes[x.class]++
		}
	}
	for _, class := range slices.Sorted(maps.Keys(s.Classes)) {
		if s.Classes[class] == 0 {
			s.broke("no %s request was answered", class)
		}
	}
	until := func(i int) time.Time { // the event with the index i, or the end
		if i < len(events) {
			return events[i].at
		}
		return end
	}
	s.distribute(samples, until(0))
	for i, e := range events {
		s.addEvent(samples, e, until(i+1))
		s.Events[i].AtS = seconds(e.at.Sub(began))
	}
	return s
}

// distribute looks at the time before the first event.
func (s *Summary) distribute(samples []sample, until time.Time) {
	total := 0.0
	for n := range backendCount {
		s.Distribution[backendName(n)] = 0
	}
	for _, x := range samples {
		if !x.End.Before(until) {
			continue
		}
		if x.Err != nil {
			s.broke("a %s request failed while every backend was well: %v", x.class, x.Err)
			continue
		}
		s.Distribution[x.Backend]++
		total++
	}
	for _, name := range slices.Sorted(maps.Keys(s.Distribution)) {
		s.Distribution[name] = math.Round(s.Distribution[name]/max(total, 1)*1e4) / 1e4
		if share := s.Distribution[name]; math.Abs(share-1.0/backendCount) > maxDeviation {
			s.broke("%s had a share of %.1f %% before the first event", name, share*100)
		}
	}
}

// addEvent looks at the time from an event until the next. The samples are in the order of their end.
func (s *Summary) addEvent(samples []sample, e event, until time.Time) {
	sum := EventSummary{Event: e.kind, Backend: e.backend}
	answered, gap := e.at, time.Duration(0)
	for _, x := range samples {
		switch {
		case !x.End.Before(until):
		case x.End.Before(e.at):
			if x.Err == nil {
				answered = x.End
			}
		case x.Err == nil:
			gap, answered = max(gap, x.End.Sub(answered)), x.End
		default:
			sum.Failed++
			after := max(x.Start.Sub(e.at), 0)
			sum.LastFailedMS = max(sum.LastFailedMS, stage.Milliseconds(after))
			if e.kind == Drain || after > failuresEnd {
				s.broke("a %s request failed that was sent %v after the %s of %s: %v",
					x.class, after.Round(time.Millisecond), e.kind, e.backend, x.Err)
			}
		}
	}
	gap = max(gap, until.Sub(answered))
	sum.GapMS = stage.Milliseconds(gap)
	if gap >= maxGap {
		s.broke("no request was answered for %v after the %s of %s", gap.Round(time.Millisecond), e.kind, e.backend)
	}
	s.Events = append(s.Events, sum)
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e3) / 1e3 }

// addFlows looks at the long-lived flows: none may have changed or lost its backend before that one died.
func (s *Summary) addFlows(ends []flowEnd, events []event) {
	died := make(map[string]time.Time)
	for _, e := range events {
		if e.kind != Drain {
			died[e.backend] = e.at
		}
	}
	s.Flows = len(ends)
	for _, end := range ends {
		at, dead := died[end.backend]
		if end.err != nil && (!dead || end.at.Before(at)) {
			s.MovedConnections++
			s.broke("a long-lived flow lost %s, which was alive: %v", end.backend, end.err)
		}
	}
}

// WriteText prints the summary for people.
func (s *Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d requests, %d failed; %d long-lived connections, %d moved while their backend was alive\n\n",
		s.Requests, s.Failed, s.Flows, s.MovedConnections)
	fmt.Fprintf(&b, "%-10s %-8s %13s %8s %22s\n", "EVENT", "BACKEND", "LONGEST GAP", "FAILED", "LAST FAILED REQUEST")
	for _, e := range s.Events {
		last := "none"
		if e.Failed > 0 {
			last = fmt.Sprintf("sent after %.0f ms", e.LastFailedMS)
		}
		fmt.Fprintf(&b, "%-10s %-8s %10.0f ms %8d %22s\n", e.Event, e.Backend, e.GapMS, e.Failed, last)
	}
	b.WriteString("\nshares while all four served:")
	for _, name := range slices.Sorted(maps.Keys(s.Distribution)) {
		fmt.Fprintf(&b, "  %s %.1f %%", name, s.Distribution[name]*100)
	}
	b.WriteString("\n")
	for _, broken := range s.Broken {
		fmt.Fprintf(&b, "NOT AS IT MUST BE: %s\n", broken)
	}
	if len(s.Broken) == 0 {
		b.WriteString("every check held\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
