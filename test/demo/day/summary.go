package day

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/scale"
	"github.com/sluicelb/sluice/test/traffic"
)

// Summary is what the demo measured. Seconds are those of the wall clock.
type Summary struct {
	Violations       int      `json:"violations"`        // seconds in which the mean response time was longer than the objective
	Seconds          int      `json:"seconds"`           // that were measured
	PeakBackends     int      `json:"peak_backends"`     // that served at the same time, at most
	LeadS            float64  `json:"lead_s"`            // how long before the peak the capacity that it needs was serving, below 0 after it
	Failed           int      `json:"failed"`            // requests
	Requests         int      `json:"requests"`          // each over a new connection
	MovedConnections int      `json:"moved_connections"` // that stay for a while, and lost or changed their backend
	Flows            int      `json:"flows"`             // such connections
	LastBackends     int      `json:"last_backends"`     // that are left in the evening
	MeanMS           float64  `json:"mean_ms"`           // response time
	ForecastShare    float64  `json:"forecast_share"`    // part of the day in which forecasts decided, 0..1
	Broken           []string `json:"broken"`            // what was not as it must be, empty when all was
}

// What must hold.
const (
	mostViolations = 0.05 // of the seconds
	mostFailed     = 0.001
)

func (s *Summary) broke(format string, args ...any) {
	s.Broken = append(s.Broken, fmt.Sprintf(format, args...))
}

func (d *day) summarize() Summary {
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	s := Summary{Requests: len(d.seen.requests), Flows: d.seen.flows, MovedConnections: len(d.seen.moved), Broken: []string{}}
	s.addRequests(d.seen.requests)
	sizer := scale.NewSizer(scale.Queue{Rate: workers / takes.Seconds(), Workers: workers}, objective)
	s.addFleet(d.seen.fleet, d.at(peaksAt), sizer.Need(busy))
	switch {
	case s.Requests == 0 || s.Flows == 0 || len(d.seen.fleet) == 0:
		s.broke("there was no traffic, or nothing was decided")
	case float64(s.Failed) > mostFailed*float64(s.Requests):
		s.broke("%d of %d requests failed", s.Failed, s.Requests)
	case float64(s.Violations) > mostViolations*float64(s.Seconds):
		s.broke("the objective of %s was missed in %d of %d seconds", objective, s.Violations, s.Seconds)
	}
	if s.LeadS <= 0 {
		s.broke("the %d backends that the peak needs served %.1f s after it", sizer.Need(busy), -s.LeadS)
	}
	if s.LastBackends > s.PeakBackends/2 {
		s.broke("%d of %d backends are left in the evening", s.LastBackends, s.PeakBackends)
	}
	for _, err := range d.seen.moved {
		s.broke("a connection broke: %v", err)
	}
	return s
}

// addRequests looks at each second.
func (s *Summary) addRequests(all []traffic.Result) {
	type second struct {
		took  time.Duration
		count int
	}
	seconds := make(map[int64]*second)
	var sum time.Duration
	for _, r := range all {
		if r.Err != nil {
			s.Failed++
		}
		took := r.End.Sub(r.Start)
		sum += took
		at := r.Start.Unix()
		if seconds[at] == nil {
			seconds[at] = new(second)
		}
		seconds[at].took += took
		seconds[at].count++
	}
	s.Seconds = len(seconds)
	s.MeanMS = math.Round(10*float64(sum.Milliseconds())/float64(max(len(all), 1))) / 10
	for _, x := range seconds {
		if x.took > objective*time.Duration(x.count) {
			s.Violations++
		}
	}
}

// addFleet looks at how many backends served, and since when there were as many as the peak needs.
func (s *Summary) addFleet(fleet []moment, peak time.Time, need int) {
	predictive := 0
	var since time.Time // there are as many
	for _, m := range fleet {
		s.PeakBackends = max(s.PeakBackends, m.ready)
		s.LastBackends = m.there
		if m.predictive {
			predictive++
		}
		switch enough := m.ready >= need; {
		case enough && since.IsZero():
			since = m.at
		case !enough && m.at.Before(peak):
			since = time.Time{}
		}
	}
	s.ForecastShare = math.Round(100*float64(predictive)/float64(max(len(fleet), 1))) / 100
	if since.IsZero() {
		since = slices.MaxFunc(append(fleet, moment{at: peak}), func(a, b moment) int { return a.at.Compare(b.at) }).at
	}
	s.LeadS = math.Round(10*peak.Sub(since).Seconds()) / 10
}

// WriteText prints the summary for people.
func (s *Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d requests, %d failed, %.1f ms on average; in %d of %d seconds they took longer than %s\n", s.Requests, s.Failed, s.MeanMS, s.Violations, s.Seconds, objective)
	fmt.Fprintf(&b, "%d backends served at the peak, as many as it needs from %.1f s (%.1f h of the calendar) before it on; %d are left in the evening\n",
		s.PeakBackends, s.LeadS, s.LeadS*speed/3600, s.LastBackends)
	fmt.Fprintf(&b, "forecasts decided for %.0f %% of the day; %d connections that stay, %d lost their backend\n", 100*s.ForecastShare, s.Flows, s.MovedConnections)
	for _, broken := range s.Broken {
		fmt.Fprintf(&b, "NOT AS IT MUST BE: %s\n", broken)
	}
	if len(s.Broken) == 0 {
		b.WriteString("every check held\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
