package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/health"
)

// Health is how the backends of a service come and go. A zero field means the daemon's default for it.
type Health struct {
	SlowStart      Pause   `json:"slow-start,omitzero" doc:"How long the weight of a backend that came back takes to grow to its full size, or off. Default: 10s"`
	Damping        Pause   `json:"damping,omitzero" doc:"How long a backend that failed again stays away at least, doubled each time up to ten times that, or off. Default: 30s"`
	PanicThreshold Percent `json:"panic-threshold,omitzero" doc:"When no more than this share of the backends is up all are used. Default: 0%"`
	MaxEjected     Percent `json:"max-ejected,omitzero" doc:"Share of the backends that may be ejected because their handshakes fail, but always one; 0% ejects none. Default: 10%"`
	Minimum        int     `json:"minimum,omitempty" minimum:"0" maximum:"65535" doc:"So many backends are kept in use if that many are up: standbys join below it. Default: 1"`
}

// builtinHealth holds where nothing else is said.
var builtinHealth = Health{
	SlowStart: Pause(10 * time.Second), Damping: Pause(30 * time.Second), PanicThreshold: off, MaxEjected: 10, Minimum: 1,
}

func (h Health) check() *FieldError {
	switch {
	case h.SlowStart > Pause(time.Hour):
		return invalid("slow-start", "%s is more than 1h", h.SlowStart)
	case h.Damping > Pause(time.Hour):
		return invalid("damping", "%s is more than 1h", h.Damping)
	case h.Minimum < 0 || h.Minimum > 65535:
		return invalid("minimum", "%d is not within 1..65535", h.Minimum)
	}
	return nil
}

// with returns h with every field filled in.
func (h Health) with(defaults Health) Health {
	filled := builtinHealth
	merge(&filled, defaults)
	merge(&filled, h)
	return filled
}

// policy is what h says, as the judge of backends knows it.
func (h Health) policy(defaults Health) health.Policy {
	filled := h.with(defaults)
	return health.Policy{
		SlowStart:      filled.SlowStart.duration(),
		Damping:        filled.Damping.duration(),
		PanicThreshold: filled.PanicThreshold.fraction(),
		MaxEjected:     filled.MaxEjected.fraction(),
		Minimum:        filled.Minimum,
	}
}

// off is the value of what is switched off where the zero value means the default.
const off = -1

// Pause is a duration that may be "off".
type Pause time.Duration

func (p Pause) duration() time.Duration { return time.Duration(max(p, 0)) }

// String returns for example "10s" or "off".
func (p Pause) String() string {
	if p == off {
		return "off"
	}
	return time.Duration(p).String()
}

// MarshalText returns String.
func (p Pause) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText accepts "off" and what time.ParseDuration does, if that is not negative; zero is off.
func (p *Pause) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	switch {
	case string(text) == "off" || err == nil && parsed == 0:
		*p = off
	case err != nil || parsed < 0:
		return fmt.Errorf("%q is neither off nor a duration such as 10s", text)
	default:
		*p = Pause(parsed)
	}
	return nil
}

// Percent is a share in percent, 0 to 100; its text ends with "%".
type Percent float64

func (p Percent) fraction() float64 { return float64(max(p, 0)) / 100 }

// String returns for example "0.1%".
func (p Percent) String() string {
	return strconv.FormatFloat(float64(max(p, 0)), 'f', -1, 64) + "%"
}

// MarshalText returns String.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText accepts for example "10%".
func (p *Percent) UnmarshalText(text []byte) error {
	number, found := strings.CutSuffix(string(text), "%")
	parsed, err := strconv.ParseFloat(number, 64)
	if err != nil || !found || !(parsed >= 0 && parsed <= 100) {
		return fmt.Errorf("%q is no share within 0%%..100%%", text)
	}
	*p = Percent(parsed)
	if parsed == 0 {
		*p = off
	}
	return nil
}
