package control

import (
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/health"
)

// Texts come back as the same values, and zero is off, not the default.
func TestPauseAndPercent(t *testing.T) {
	for text, want := range map[string]string{"10s": "10s", "1h0m0s": "1h0m0s", "off": "off", "0s": "off", "0": "off", "1.5s": "1.5s"} {
		var p, again Pause
		if err := p.UnmarshalText([]byte(text)); err != nil || p.String() != want || p == 0 {
			t.Errorf("%q is %v, %v", text, p, err)
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || again != p {
			t.Errorf("%q is %v and then %v", text, p, again)
		}
	}
	for text, want := range map[string]string{"10%": "10%", "0.1%": "0.1%", "0%": "0%", "100%": "100%", "12.3456789%": "12.3456789%", "0.00001%": "0.00001%"} {
		var p, again Percent
		if err := p.UnmarshalText([]byte(text)); err != nil || p.String() != want || p == 0 {
			t.Errorf("%q is %v, %v", text, p, err)
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || again != p {
			t.Errorf("%q is %v and then %v", text, float64(p), float64(again))
		}
	}
	for _, text := range []string{"", "soon", "-1s", "10"} {
		if new(Pause).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is a pause", text)
		}
	}
	for _, text := range []string{"", "%", "10", "-1%", "101%", "NaN%", "Inf%", "off"} {
		if new(Percent).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is a percentage", text)
		}
	}
}

// A service's word counts, then the daemon's, then what is built in; off is a word.
func TestHealthLayers(t *testing.T) {
	daemon := Health{SlowStart: Pause(time.Minute), Damping: off, MaxEjected: 50}
	service := Health{SlowStart: off, Minimum: 3}
	want := health.Policy{MaxEjected: 0.5, Minimum: 3}
	if got := service.policy(daemon); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	want = health.Policy{SlowStart: 10 * time.Second, Damping: 30 * time.Second, MaxEjected: 0.1, Minimum: 1}
	if got := (Health{}).policy(Health{}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
