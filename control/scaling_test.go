package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/brain/scale"
)

// Each mistake in a scaling policy is told with its field and the way out.
func TestScalingErrors(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"executor":          {"executor: lambda, service-rate: 5, max: 3", `scaling: executor: "lambda" is no executor (known: none, exec, webhook, kubernetes, keda)`},
		"no command":        {"executor: exec, service-rate: 5, max: 3", `scaling: command: is missing; executor exec needs it`},
		"another's command": {"executor: keda, command: x, service-rate: 5, max: 3", `scaling: command: belongs to executor exec, not keda`},
		"url":               {"executor: webhook, url: \"ftp://x\", service-rate: 5, max: 3", `scaling: url: is no address such as https://`},
		"workload":          {"executor: kubernetes, workload: jobs/x, service-rate: 5, max: 3", `"jobs/x" is not deployments/NAME`},
		"namespace":         {"namespace: x, service-rate: 5", `"x" is no namespace of executor kubernetes`},
		"act":               {"act: maybe, service-rate: 5", `"maybe" is not yes or dry-run`},
		"no rate":           {"min: 2", `service-rate: is missing; give it, or have backends report their load`},
		"negative rate":     {"service-rate: -5", `service-rate: -5 is negative`},
		"no max":            {"executor: keda, service-rate: 5", `max: is missing`},
		"max below min":     {"service-rate: 5, min: 4, max: 3", `max: 3 is less than the min of 4`},
		"risk":              {"service-rate: 5, risk: 100%", `risk: 100% is not above 0% and below 100%`},
		"objective":         {"service-rate: 5, objective: 100ms", `scaling: objective: `},
		"boot":              {"service-rate: 50, boot: 48h", `boot: 48h0m0s is not within 0s..24h`},
		"tolerance":         {"service-rate: 50, tolerance: 60%", `tolerance: 60% is more than 50%`},
		"budget":            {"service-rate: 50, day-budget: 60", `price: is missing; budgets are reckoned by it`},
		"scenario":          {"service-rate: 50, survive: meteor", `survive: `},
		"scenario's factor": {"service-rate: 50, survive: zone=2", `"zone=2" is no event such as slow=1.5`},
		"probability":       {"service-rate: 50, consider: \"zone:often\"", `consider: "zone:often"`},
		"freeze":            {"service-rate: 50, freeze: christmas", `freeze: "christmas" is no time such as fri 16:00/mon 06:00`},
		"freeze's end":      {"service-rate: 50, freeze: 2026-12-27T00:00:00Z/2026-12-24T00:00:00Z", `does not end with a later time`},
		"freeze's day":      {"service-rate: 50, freeze: fri 16:00/noday 06:00", `is no time such as`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest("test.yaml", []byte("services: [{address: \"10.0.0.1:80\", scaling: {"+test.text+"}}]"))
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// A program is run only when the daemon's configuration allows it.
func TestScalingByProgram(t *testing.T) {
	listed := parse(t, `services: [{address: "10.0.0.1:80", scaling: {executor: exec, command: start, service-rate: 50, max: 3}}]`)
	r := testRules()
	if _, err := r.apply(&Manifest{}, ApplyRequest{Services: listed.Services}); err == nil || !strings.Contains(err.Error(), "scale: {exec: true}") {
		t.Errorf("error is %v", err)
	}
	r.scaleBy = true
	apply(t, r, Manifest{}, listed, false)
}

const scaled2 = `services:
  - name: web
    address: 10.0.0.1:80
    scaling: {service-rate: 50}
    backends: [{address: 10.1.0.1, name: a}, {address: 10.1.0.2, name: b}]
`

// Applying a file keeps the backends that scaling started, which the file does not list, unless the service scales no more.
func TestApplyKeepsOrdered(t *testing.T) {
	r := testRules()
	m := apply(t, r, Manifest{}, parse(t, scaled2), false)
	started := Backend{Name: "new", Address: netip.MustParseAddr("10.1.0.3"), Port: 80, Order: "7/1"}
	if _, err := r.addBackend(&m, "web", started); err != nil {
		t.Fatal(err)
	}
	names := func(m Manifest) (text string) {
		for _, b := range m.Services[0].Backends {
			text += " " + b.Name + b.Order
		}
		return text
	}
	fewer := strings.Replace(scaled2, ", {address: 10.1.0.2, name: b}", "", 1)
	for name, test := range map[string]struct{ text, want string }{
		"same":             {scaled2, " a b new7/1"},
		"fewer":            {fewer, " a new7/1"},
		"listed by itself": {strings.Replace(scaled2, "10.1.0.2, name: b", "10.1.0.3", 1), " a new"},
		"no more scaling":  {strings.Replace(scaled2, "    scaling: {service-rate: 50}\n", "", 1), " a b"},
	} {
		if got := names(apply(t, r, m, parse(t, test.text), false)); got != test.want {
			t.Errorf("%s: backends are%s, want%s", name, got, test.want)
		}
	}
}

// Another executor has no use for what the former one was told; {} ends scaling.
func TestScalingPatched(t *testing.T) {
	s := Service{Scaling: Scaling{Executor: executorWebhook, URL: "https://x", Max: 4, ServiceRate: 50}}
	s.patchScaling(&Scaling{Executor: executorKEDA, Min: 2})
	if want := (Scaling{Executor: executorKEDA, Min: 2, Max: 4, ServiceRate: 50}); s.Scaling != want {
		t.Error(cmp.Diff(want, s.Scaling))
	}
	s.patchScaling(nil)
	if !s.Scaling.on() {
		t.Error("no patch ends scaling")
	}
	s.patchScaling(&Scaling{})
	if s.Scaling.on() {
		t.Error("{} does not end scaling")
	}
}

// Weekly freezes go by local clocks, also over the change to summer time and over the week's end.
func TestFreezes(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	freezes, err := parseFreezes("all fri 16:00/mon 06:00; 2026-12-24T00:00:00Z/2026-12-27T00:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	frozen := func(at string) string {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range freezes {
			if z := f.around(now, berlin); !now.Before(z.From) && now.Before(z.To) {
				return fmt.Sprint(z.All)
			}
		}
		return "no"
	}
	for at, want := range map[string]string{
		"2026-11-27T15:59:59+01:00": "no", "2026-11-27T16:00:00+01:00": "true", // a Friday
		"2026-11-29T12:00:00+01:00": "true", "2026-11-30T05:59:59+01:00": "true", "2026-11-30T06:00:00+01:00": "no",
		"2026-03-30T05:59:59+02:00": "true", "2026-03-30T06:00:00+02:00": "no", // summer time began on the Sunday
		"2026-12-24T12:00:00Z": "false", "2026-12-23T12:00:00Z": "no",
	} {
		if got := frozen(at); got != want {
			t.Errorf("at %s frozen is %s, want %s", at, got, want)
		}
	}
}

// Scenarios are read with their probabilities.
func TestScenarios(t *testing.T) {
	got, err := Scaling{Survive: "zone:1%, instance", Consider: "slow=1.5:5%"}.scenarios()
	if err != nil {
		t.Fatal(err)
	}
	want := []scale.Scenario{
		{Event: scale.LoseZone, Probability: 0.01, Survive: true}, {Event: scale.LoseOne, Probability: usualProbability, Survive: true},
		{Event: scale.Slow, Probability: 0.05, Factor: 1.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// By a calendar that runs faster the same policy is the same: what takes a second takes longer, and requests are fewer per second.
func TestScalingByCalendar(t *testing.T) {
	s := Scaling{ServiceRate: 50, Objective: Duration(time.Second), Boot: Duration(3 * time.Second)}.filled()
	o, slow := s.options(50, 10), s.options(50, 1)
	if o.Boot != 30*time.Second || o.Queue.Instances(0.9*4*5, o.Objective.Seconds()) != slow.Queue.Instances(0.9*4*50, slow.Objective.Seconds()) {
		t.Errorf("boot %s, %d instead of %d instances", o.Boot, o.Queue.Instances(0.9*4*5, o.Objective.Seconds()), slow.Queue.Instances(0.9*4*50, slow.Objective.Seconds()))
	}
	if l := s.limits(10); l.CooldownDown != 100*time.Minute || l.CooldownUp != 0 {
		t.Errorf("limits %+v", l)
	}
}

// For what goes wrong there are pauses that become longer.
func TestFailedScalingWaits(t *testing.T) {
	s := &scaler{clock: newClock(Calendar{})}
	sc := new(scaled)
	before := time.Duration(0)
	for range 8 {
		s.failed(sc)
		pause := time.Until(sc.retry)
		if pause < before-time.Second || pause > longestBackOff {
			t.Errorf("pause %s after one of %s", pause, before)
		}
		before = pause
	}
	if before < longestBackOff-time.Second {
		t.Errorf("the pause grows to %s only", before)
	}
}
