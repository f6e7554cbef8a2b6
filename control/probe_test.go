package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/dataplane"
)

// layered returns the probe of the only backend, with everything filled in.
func layered(t *testing.T, defaults Probe, service, backend string) Probe {
	t.Helper()
	d := Defaults{Mode: dataplane.ModeNAT, Probe: defaults}
	s := parse(t, `{services: [{address: "192.0.2.1:80", probe: `+service+`, backends: [{address: 198.51.100.1, probe: `+backend+`}]}]}`).Services[0]
	if err := s.complete(d); err != nil {
		t.Fatal(err)
	}
	return s.probe(d, &s.Backends[0])
}

// What is said further in counts, and a profile stands for what it stands for at the place that names it.
func TestProbeLayers(t *testing.T) {
	slow := Probe{Interval: Duration(time.Second), Fall: 7}
	for name, test := range map[string]struct {
		service, backend string
		want             Probe
	}{
		"defaults":                 {"{}", "{}", Probe{Profile: health.ProfileDefault, Interval: Duration(time.Second), Timeout: Duration(100 * time.Millisecond), Rise: 2, Fall: 7}},
		"profile of the service":   {"{profile: fast}", "{}", Probe{Profile: health.ProfileFast, Interval: Duration(15 * time.Millisecond), Timeout: Duration(50 * time.Millisecond), Rise: 2, Fall: 3}},
		"beside it":                {"{profile: fast, interval: 2s}", "{}", Probe{Profile: health.ProfileFast, Interval: Duration(2 * time.Second), Timeout: Duration(50 * time.Millisecond), Rise: 2, Fall: 3}},
		"further in":               {"{profile: fast}", "{rise: 5}", Probe{Profile: health.ProfileFast, Interval: Duration(15 * time.Millisecond), Timeout: Duration(50 * time.Millisecond), Rise: 5, Fall: 3}},
		"profile of the backend":   {"{profile: fast, interval: 2s}", "{profile: gentle}", Probe{Profile: health.ProfileGentle, Interval: Duration(2 * time.Second), Timeout: Duration(time.Second), Rise: 2, Fall: 3}},
		"another type":             {"{type: https, path: /health, insecure: true}", "{type: tcp}", Probe{Profile: health.ProfileDefault, Interval: Duration(time.Second), Timeout: Duration(100 * time.Millisecond), Rise: 2, Fall: 7}},
		"another type with a part": {"{type: https, path: /health, insecure: true}", "{type: http}", Probe{Spec: probe.Spec{Kind: probe.HTTP, Path: "/health"}, Profile: health.ProfileDefault, Interval: Duration(time.Second), Timeout: Duration(100 * time.Millisecond), Rise: 2, Fall: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.Via = ViaBackend
			if test.want.Kind == "" {
				test.want.Kind = probe.TCP
			}
			if got := layered(t, slow, test.service, test.backend); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

// A shorter timeout than the profile's makes what follows from it shorter, a longer one does not make it longer.
func TestTimingKeepsProportion(t *testing.T) {
	for timeout, want := range map[string][2]time.Duration{
		"100ms": {20 * time.Millisecond, 5 * time.Millisecond},
		"50ms":  {10 * time.Millisecond, 2500 * time.Microsecond},
		"1m":    {20 * time.Millisecond, 5 * time.Millisecond},
	} {
		p := layered(t, Probe{}, "{timeout: "+timeout+"}", "{}")
		if timing := p.timing(); timing.Floor != want[0] || timing.Confirm != want[1] {
			t.Errorf("with a timeout of %s the shortest is %v and the pause %v", timeout, timing.Floor, timing.Confirm)
		}
	}
}

// A patch changes the type of a probe as a manifest would.
func TestPatchOfProbes(t *testing.T) {
	r := testRules()
	m := apply(t, r, Manifest{}, parse(t, web), false)
	patch := func(p Probe) Probe {
		t.Helper()
		s, err := r.update(&m, "web", ServicePatch{Probe: &p})
		if err != nil {
			t.Fatal(err)
		}
		return *s.Probe
	}
	patch(Probe{Spec: probe.Spec{Kind: probe.HTTPS, Path: "/health", Insecure: true}, Fall: 5})
	if got := patch(Probe{Spec: probe.Spec{Kind: ProbeNone}}); got.Path != "/health" || got.Kind != ProbeNone {
		t.Errorf("switched off it is %+v", got)
	}
	if got := patch(Probe{Spec: probe.Spec{Kind: probe.HTTP}}); got != (Probe{Spec: probe.Spec{Kind: probe.HTTP, Path: "/health"}, Fall: 5}) {
		t.Errorf("over http it is %+v", got)
	}
	if got := patch(Probe{Spec: probe.Spec{Kind: probe.TCP}}); got != (Probe{Spec: probe.Spec{Kind: probe.TCP}, Fall: 5}) {
		t.Errorf("over tcp it is %+v", got)
	}
}

// Each mistake in what is watched is told with its place and what is allowed.
func TestHealthErrors(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"probe type":            {"    probe:\n      type: ping\n", `5:7: services[0] "web": probe: type: "ping" is none of tcp, http,`},
		"field of another type": {"    probe:\n      fall: 2\n      path: /\n", `6:7: services[0] "web": probe: path: a probe of kind tcp has no use for it`},
		"of a backend":          {"    backends:\n      - address: 10.1.0.1\n        probe:\n          expect: \"(\"\n", `7:11: services[0] "web": backends[0]: probe: expect: `},
		"unknown key":           {"    probe: {paht: /}\n", `4:13: services[0]: probe: paht: unknown key (known: type, method, path,`},
		"profile":               {"    probe: {profile: slow}\n", `4:13: services[0] "web": probe: profile: "slow" is no profile`},
		"via":                   {"    probe: {via: service}\n    backends: [{address: 10.1.0.1}]\n", `4:13: services[0] "web": probe: via: service is for the modes l2, ipip and gue`},
		"source":                {"    probe: {source: \"2001:db8::1\"}\n    backends: [{address: 10.1.0.1}]\n", `4:13: services[0] "web": probe: source: 2001:db8::1 is not of the family`},
		"slow start":            {"    health:\n      slow-start: 2h\n", `5:7: services[0] "web": health: slow-start: 2h0m0s is more than 1h`},
		"damping":               {"    health: {damping: -1s}\n", `"-1s" is neither off nor a duration`},
		"threshold":             {"    health: {panic-threshold: 50}\n", `"50" is no share within 0%..100%`},
		"minimum":               {"    health: {minimum: -1}\n", `4:14: services[0] "web": health: minimum: -1 is not within`},
		"load":                  {"    load:\n      metric: busy\n", `5:7: services[0] "web": load: metric: `},
		"load's interval":       {"    load: {interval: 1ms}\n", `4:12: services[0] "web": load: interval: 1ms is not within 100ms..1h`},
		"load's metric":         {"    load: {type: prometheus}\n", `services[0] "web": load: metric: `},
		"full":                  {"    load: {type: prometheus, metric: busy, full: much}\n", `"much" is not a number`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest("m.yaml", []byte("services:\n  - name: web\n    address: 10.0.0.1:80\n"+test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// Programs are run only where the configuration allows it: neither taken over nor, from an older store, run.
func TestExecIsGuarded(t *testing.T) {
	r := testRules()
	const text = `{services: [{name: web, address: "192.0.2.1:80", backends: [{address: 198.51.100.1, probe: {type: exec, command: "true"}}]}]}`
	listed := parse(t, text)
	if _, err := r.apply(new(Manifest), ApplyRequest{Services: listed.Services}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "probes: {exec: true}") {
		t.Errorf("applying it: %v", err)
	}
	r.exec = true
	stored := apply(t, r, Manifest{}, listed, false)
	synctest.Test(t, func(t *testing.T) {
		allowed := DefaultConfig()
		allowed.Probes.Exec = true
		for config, problems := range map[*Config]int{new(DefaultConfig()): 1, &allowed: 0} {
			reconciler := newReconciler(&recorder{}, *config, slog.New(slog.DiscardHandler), health.Options[target]{})
			reconciler.want(stored)
			if got := reconciler.problems(); len(got) != problems {
				t.Errorf("with exec %t the problems are %q", config.Probes.Exec, got)
			}
			reconciler.monitor.Close()
		}
	})
}

// unresolved is a kernel that knows no way to any backend.
type unresolved struct{ recorder }

func (*unresolved) ProbeMark(dataplane.ServiceKey, netip.AddrPort) (uint32, error) {
	return 0, dataplane.ErrUnresolved
}

// A probe without a next hop ends when its connection should have been accepted, so that it counts as a miss.
func TestProbeWithoutNextHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := viaService{kernel: &unresolved{}}.Probe(ctx, &probe.Connect{Limit: 20 * time.Millisecond})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, health.ErrNotSent) || time.Since(began) != 20*time.Millisecond {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
	})
}
