package failover

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sluicelb/sluice/control"
)

const (
	checkEvery = 50 * time.Millisecond
	// Measures, decisions and tables follow each other, a status shows them as they are: so long they may disagree.
	disagreeWithin = time.Second
	// A backend has at least this part of its weight at times when nothing speaks against it.
	wholeWeight = 0.85
	// So many new flows are not by chance with other backends all: e^-30.
	enoughFlows = 30
	// The weight in force differs from the score by the hysteresis and half a step at most, and is a step at least.
	mostOff, leastForce = 0.1 + 0.05/2 + 0.005, 0.05
)

// record is what the checks remember of one backend.
type record struct {
	whole    time.Time // when it had its whole weight last
	out      time.Time // since when it was dead when it was seen to be out last
	expected float64   // new flows since the last one, by its share
	wrong    map[string]time.Time
}

// watchStatus checks what the daemon says until ctx ends.
func (c *churn) watchStatus(ctx context.Context) error {
	for ctx.Err() == nil {
		r, before := c.model.look()
		asked := time.Now()
		status, err := c.site.Client.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now, after := c.model.look()
		if len(status.Services) == 1 && r == now.with(r) {
			c.checkService(asked, r, before, after, &status.Services[0])
		}
		c.counts["status"]++
		select {
		case <-ctx.Done():
		case <-time.After(checkEvery):
		}
	}
	return nil
}

// with returns r as it was when the notes of before were made.
func (r rules) with(before rules) rules {
	r.damped, r.ejected = before.damped, before.ejected
	return r
}

// checkService checks a status, for which the backends were asked at a time. One that has been changed meanwhile is not judged.
func (c *churn) checkService(asked time.Time, r rules, before, after []conduct, s *control.ServiceStatus) {
	c.checkShares(asked, s)
	c.checkPolicy(asked, r, before, after, s)
	known := make(map[string]*control.BackendStatus, len(s.Backends))
	for i := range s.Backends {
		known[s.Backends[i].Name] = &s.Backends[i]
	}
	opened := float64(c.opened.Swap(0))
	for i, is := range before {
		b := known[is.name]
		switch {
		case is != after[i] || is.changing:
			*c.records[is.name] = record{whole: c.records[is.name].whole, wrong: make(map[string]time.Time)}
		case (b != nil) != (is.wish.state != ""):
			c.violated("%s is listed: %v, and configured: %v", is.name, b != nil, is.wish.state != "")
		case b != nil:
			c.checkBackend(asked, r, is, s, b)
			c.checkArrivals(r, is, b, asked, opened)
		}
	}
}

// checkBackend checks what is decided about one.
func (c *churn) checkBackend(asked time.Time, r rules, is conduct, s *control.ServiceStatus, b *control.BackendStatus) {
	record, panicked := c.records[is.name], s.State == control.ServicePanic
	if b.State == control.StateDown {
		record.out = is.changed
	} else if is.dead() && record.out.Equal(is.changed) {
		c.violated("%s comes back that is dead: %s, %s", is.name, b.State, b.Cause)
	}
	in, out := r.in(is, asked), is.dead() && is.wish.state != control.StateDown && asked.After(r.detected(is))
	if is.fault == "" && !is.changing && b.State == control.StateDown && is.wish.state != control.StateDown && c.model.wronged(is.name, b.Since) {
		c.wronged.Add(1)
		return
	}
	c.disagree(record, "in", asked, in && b.State != control.StateUp && !excusedEjection(r, is, b, asked),
		"%s stays out that is well: %s, %s", is.name, b.State, b.Cause)
	if out && b.State != control.StateDown {
		c.violated("%s stays in that is dead: %s, %s", is.name, b.State, b.Cause)
	}
	c.disagree(record, "out", asked, out && b.Share > 0 && !panicked, "%s has %.3f of the slots and is down", is.name, b.Share)
	c.disagree(record, "wish", asked, b.Share > 0 && (is.wish.state == control.StateDraining || is.wish.state == control.StateDown),
		"%s has %.3f of the slots and is wished %s", is.name, b.Share, is.wish.state)
	c.checkWeight(asked, r, is, b, panicked)
	c.count("in", in)
	c.count("out", out)
}

// count notes how often a property was checked with something at stake.
func (c *churn) count(what string, is bool) {
	if is {
		c.counts[what]++
	}
}

// excusedEjection says that a backend is out for handshakes that may have failed in a fault; five minutes at most.
func excusedEjection(r rules, is conduct, b *control.BackendStatus, asked time.Time) bool {
	return strings.HasPrefix(b.Cause, "ejected until") && !is.hurt.IsZero() && !r.ejected.Before(is.hurt) &&
		asked.Before(is.changed.Add(5*time.Minute+margin))
}

// checkWeight checks that the weight in force follows the score, which is less when a backend is slow, and all when it is well.
func (c *churn) checkWeight(asked time.Time, r rules, is conduct, b *control.BackendStatus, panicked bool) {
	record, slowStart := c.records[is.name], strings.Contains(b.Reasons, "slow start")
	scored := b.State == control.StateUp && !panicked && !slowStart
	c.count("scored", scored && b.Score < 0.75)
	c.disagree(record, "score", asked, scored && math.Abs(b.InForce-max(b.Score, leastForce)) > mostOff,
		"%s has a score of %.2f and %.2f of its weight: %s", is.name, b.Score, b.InForce, b.Reasons)
	if slowStart && r.in(is, asked) && asked.After(r.recovered(is).Add(r.slowStart)) && !strings.HasPrefix(b.Cause, "no longer: ejected") {
		c.violated("%s does not end its slow start: %.2f, %s", is.name, b.InForce, b.Reasons)
	}
	if b.InForce >= wholeWeight || record.whole.IsZero() {
		record.whole = asked
	}
	since := later(later(is.changed, r.changed), is.held)
	due := r.recovered(is).Add(r.slowStart + r.averaged())
	whole := r.in(is, asked) && b.State == control.StateUp && asked.After(due)
	c.count("whole", whole)
	if whole && record.whole.Before(since) {
		c.violated("%s does not get its weight back: %.2f, %s", is.name, b.InForce, b.Reasons)
	}
	if is.fault != Slow || is.changing || panicked || b.State != control.StateUp || asked.Before(since.Add(r.averaged())) {
		record.agree("slow")
		return
	}
	own, peers := time.Duration(b.ProbeLatency), time.Duration(b.PeersLatency)
	if own < slowDelay*9/10 {
		c.violated("%s takes %v to answer, and %v is measured", is.name, slowDelay, own)
	}
	expected := 1.0
	if own > 0 && peers > 0 {
		expected = min(1, float64(2*peers+time.Millisecond)/float64(own)) // docs/architecture.md, Score and weight
	}
	c.count("slow", expected < 0.75)
	c.disagree(record, "slow", asked, b.InForce > expected+mostOff,
		"%s is slow, %v where its peers take %v, and has %.2f of its weight", is.name, own, peers, b.InForce)
}

// checkPolicy checks who stands in for those that are missing: by what the daemon says of the backends itself, which the other
// checks compare with the truth.
func (c *churn) checkPolicy(asked time.Time, r rules, before, after []conduct, s *control.ServiceStatus) {
	wishes := make(map[string]wish, len(before))
	for i, is := range before {
		if is.wish != after[i].wish || is.changing || after[i].changing {
			return
		}
		wishes[is.name] = is.wish
	}
	wished, serving, joined, waiting, kept := 0, 0, 0, 0, 0
	for _, b := range s.Backends {
		up, wish := b.State == control.StateUp, wishes[b.Name]
		switch {
		case wish.weight == 0:
		case wish.state == control.StateUp:
			wished++
			serving += one(up)
			kept += one(strings.HasPrefix(b.Cause, "held back until") || strings.HasPrefix(b.Cause, "ejected until"))
		case wish.state == control.StateStandby:
			joined += one(up)
			waiting += one(b.State == control.StateStandby)
		}
	}
	missing := max(r.minimum-serving, 0)
	panics := wished > 0 && serving+joined < wished && float64(serving+joined) <= float64(max(r.panic, 0))/100*float64(wished)
	c.count("standby", missing > 0 && joined+waiting > 0)
	c.count("panic", panics)
	all := c.records[s.Backends[0].Name]
	c.disagree(all, "standby", asked, joined != min(missing, joined+waiting),
		"%d of %d backends are in use, %d are wanted, and %d standbys joined of %d", serving, wished, r.minimum, joined, joined+waiting)
	c.disagree(all, "minimum", asked, kept > 0 && serving+joined < r.minimum,
		"%d backends are in use, %d are wanted, and %d are kept away", serving+joined, r.minimum, kept)
	c.disagree(all, "panic", asked, panics != (s.State == control.ServicePanic),
		"%d of %d backends are in use, panic is at %v, and the service is %s", serving+joined, wished, r.panic, s.State)
	for _, b := range s.Backends {
		wish := wishes[b.Name]
		c.disagree(c.records[b.Name], "panicked", asked, panics && wish.state == control.StateUp && wish.weight > 0 && b.Share == 0,
			"the service panics, and %s is not used", b.Name)
	}
}

func one(condition bool) int {
	if condition {
		return 1
	}
	return 0
}

// checkSteps checks that tables were not rewritten for small changes.
func (c *churn) checkSteps(events []control.Event) {
	for _, e := range events {
		var from, to int
		if e.Kind != control.EventWeight {
			continue
		}
		if _, err := fmt.Sscanf(e.From+" "+e.To, "%d%% %d%%", &from, &to); err != nil {
			c.violated("%s: %v", e, err)
		}
		if from < to+10 && to < from+10 && to != 100 && to != 5 { // the largest and the least are taken at once
			c.violated("the weight follows noise: %s", e)
		}
	}
}

// checkShares checks that slots follow weights.
func (c *churn) checkShares(asked time.Time, s *control.ServiceStatus) {
	sum := 0.0
	for _, b := range s.Backends {
		sum += float64(b.Weight) * b.InForce
	}
	for _, b := range s.Backends {
		expected := 0.0
		if sum > 0 {
			expected = float64(b.Weight) * b.InForce / sum
		}
		// The kernel's weights are whole 64ths of the configured ones, and slots are whole.
		tolerance := 1.0 / 64 * float64(len(s.Backends)) / max(sum, 1)
		if s.Slots > 0 {
			tolerance += 1 / float64(s.Slots)
		}
		c.disagree(c.records[b.Name], "share", asked, math.Abs(b.Share-expected) > tolerance,
			"%s has %.4f of the slots, and weight %d x %.2f of %.1f is %.4f", b.Name, b.Share, b.Weight, b.InForce, sum, expected)
	}
	c.disagree(c.records[s.Backends[0].Name], "error", asked, s.Error != "", "the kernel refuses the service: %s", s.Error)
}

// checkArrivals checks that a backend that is in takes new flows.
func (c *churn) checkArrivals(r rules, is conduct, b *control.BackendStatus, asked time.Time, opened float64) {
	record := c.records[is.name]
	if c.takeArrivals(is.name) > 0 || !r.in(is, asked) || b.State != control.StateUp {
		record.expected = 0
		return
	}
	if record.expected += opened * b.Share; record.expected > enoughFlows {
		c.violated("%s takes no new flows: %.0f of those that were opened are its part", is.name, record.expected)
	}
}

// disagree is a violation when something is wrong for too long.
func (c *churn) disagree(r *record, what string, asked time.Time, wrong bool, format string, arguments ...any) {
	if !wrong {
		r.agree(what)
		return
	}
	if since, known := r.wrong[what]; !known {
		r.wrong[what] = asked
	} else if asked.Sub(since) > disagreeWithin {
		c.violated("for %v: %s", asked.Sub(since).Round(time.Millisecond), fmt.Sprintf(format, arguments...))
	}
}

func (r *record) agree(what string) { delete(r.wrong, what) }
