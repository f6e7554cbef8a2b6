package failover

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// deed is something that is done to the site at a time after the beginning. A script is in the order of the times, and
// depends on nothing but a random number generator.
type deed struct {
	at      time.Duration
	subject int // the index of a backend, or everyone
	what    any // a Fault to begin or, when "", to end; a wish; or a regime
}

// mostDamping is that of every regime which has one.
const mostDamping = 200 * time.Millisecond

// everyone is the subject of what concerns the whole service.
const everyone = -1

// wish is what is configured about a backend.
type wish struct {
	state  control.State // "" when the service has no such backend
	weight int
}

// regime is what is configured about all backends.
type regime struct {
	profile   health.Profile
	damping   time.Duration // 0: off
	slowStart time.Duration // 0: off
	ejecting  bool          // for handshakes that fail
	panic     control.Percent
	minimum   int
	tracking  dataplane.Tracking
	stubborn  bool // many failures are wanted to make one down, and many successes to make it up
}

// timing is that of the profile. The gentle one looks more often than usual, so that there is time for it to be wrong. The
// stubborn one counts for so long that a wrong count is told from a machine that is busy.
func (r regime) timing() health.Timing {
	t, _ := r.profile.Timing()
	t.Interval = min(t.Interval, 200*time.Millisecond)
	if r.stubborn {
		t.Fall, t.Rise = stubbornFall, stubbornRise
		t.Confirm = t.Confirm * stubbornTimeout / t.Timeout // as control does
		t.Floor = t.Floor * stubbornTimeout / t.Timeout
		t.Timeout = stubbornTimeout
	}
	return t
}

const (
	stubbornFall    = 80
	stubbornRise    = 10
	stubbornTimeout = 500 * time.Millisecond
)

func (d deed) String() string {
	who := "all"
	if d.subject != everyone {
		who = fmt.Sprintf("b%d", d.subject+1)
	}
	what := fmt.Sprintf("%+v", d.what)
	if d.what == Fault("") {
		what = "healed"
	}
	return fmt.Sprintf("%7.2fs %s %s", d.at.Seconds(), who, what)
}

// writeScript makes one for a mode and so many backends. At times all of them are dead.
func writeScript(random *rand.Rand, mode dataplane.Mode, backends int, length time.Duration) []deed {
	var blackouts []time.Duration
	for at := between(random, time.Second, 4*time.Second); at < length; at += between(random, 30*time.Second, 90*time.Second) {
		blackouts = append(blackouts, at)
	}
	var script []deed
	for n := range backends {
		script = append(script, faultsOf(random, n, blackouts, length)...)
		script = append(script, wishesFor(random, n, length)...)
	}
	for at := between(random, 200*time.Millisecond, 2*time.Second); at < length; at += between(random, 6*time.Second, 30*time.Second) {
		script = append(script, deed{at, everyone, imposed(random, mode)})
	}
	slices.SortStableFunc(script, func(a, b deed) int { return int(a.at - b.at) })
	return script
}

// imposed is a regime for a mode.
func imposed(random *rand.Rand, mode dataplane.Mode) regime {
	r := regime{
		profile:   pick(random, health.ProfileDefault, health.ProfileFast, health.ProfileGentle),
		damping:   pick(random, 0, mostDamping),
		slowStart: pick(random, 0, time.Second),
		ejecting:  random.IntN(4) == 0,
		panic:     pick[control.Percent](random, off, off, 40, 70),
		minimum:   pick(random, 1, 1, 3, churnBackends),
		tracking:  dataplane.TrackingFull,
	}
	if mode.DirectReturn() {
		r.tracking = pick(random, dataplane.TrackingFull, dataplane.TrackingJustEnough)
	}
	if random.IntN(4) == 0 {
		r.profile, r.stubborn = health.ProfileGentle, true
	}
	return r
}

// off is a percentage, or a pause, of nothing.
const off = -1

const (
	blackoutLength = 5 * time.Second
	// Something is noticed about a slow backend only when it is slow for long.
	slowAtLeast = 10 * time.Second
	// One in four of the other faults is longer than any profile takes to notice it.
	longAtLeast = 6 * time.Second
)

// faultsOf has one backend fail and come back all the time.
func faultsOf(random *rand.Rand, subject int, blackouts []time.Duration, length time.Duration) (script []deed) {
	for end := time.Duration(0); ; {
		begin := end + between(random, 500*time.Millisecond, 40*time.Second)
		fault, lasts := Faults[random.IntN(len(Faults))], between(random, 30*time.Millisecond, 8*time.Second)
		if subject == 0 && len(script) == 2 { // one is slow soon
			begin, fault = end+between(random, 500*time.Millisecond, 2*time.Second), Slow
		}
		switch {
		case fault == Slow:
			lasts += slowAtLeast
		case random.IntN(4) == 0:
			lasts += longAtLeast
		}
		for _, blackout := range blackouts {
			if blackout > end && blackout < begin+lasts {
				begin, lasts = blackout, blackoutLength
				fault = pick(random, Kill, Stop, LinkDown, Reset, Silent)
				break
			}
		}
		if begin > length {
			return script
		}
		end = begin + lasts
		script = append(script, deed{begin, subject, fault}, deed{end, subject, Fault("")})
	}
}

// wishesFor has one backend configured in all ways.
func wishesFor(random *rand.Rand, subject int, length time.Duration) (script []deed) {
	weight := control.DefaultWeight
	for at := time.Duration(0); ; {
		at += between(random, time.Second, 30*time.Second)
		if at > length {
			return script
		}
		if random.IntN(2) == 0 {
			weight = pick(random, 0, 10, 50, 100, 250)
			script = append(script, deed{at, subject, wish{control.StateUp, weight}})
			continue
		}
		script = append(script, deed{at, subject, wish{
			pick(random, control.StateDraining, control.StateDown, control.StateStandby, control.StateStandby, ""), weight}})
		at += between(random, 200*time.Millisecond, 8*time.Second)
		script = append(script, deed{at, subject, wish{control.StateUp, weight}})
	}
}

// between returns a duration that is as likely from 1 s to 2 s as from 2 s to 4 s.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), random.Float64()))
}

func pick[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }
