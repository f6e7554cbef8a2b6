package control

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/dataplane"
)

// parse reads a manifest that must be right, and completes it with the defaults.
func parse(t *testing.T, text string) Manifest {
	t.Helper()
	m, err := ParseManifest("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cmpOptions compare addresses by value.
var cmpOptions = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func testRules() rules {
	return rules{defaults: builtinDefaults, limits: dataplane.Limits{Services: 4, Backends: 6}}
}

const web = `
services:
  - name: web
    address: 192.0.2.1:80
    backends:
      - {name: one, address: 198.51.100.1}
      - {name: two, address: "198.51.100.2:8080", weight: 50}
`

// What is left open is filled in.
func TestDefaults(t *testing.T) {
	var m Manifest
	created, err := testRules().create(&m, parse(t, web).Services[0])
	if err != nil {
		t.Fatal(err)
	}
	want := Service{
		Name: "web", Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: dataplane.ProtocolTCP, Mode: new(dataplane.ModeNAT),
		Backends: []Backend{
			{Name: "one", Address: netip.MustParseAddr("198.51.100.1"), Port: 80, Weight: new(100), State: StateUp},
			{Name: "two", Address: netip.MustParseAddr("198.51.100.2"), Port: 8080, Weight: new(50), State: StateUp},
		},
	}
	if difference := cmp.Diff(want, created, cmpOptions); difference != "" {
		t.Errorf("the completed service differs (-want +got):\n%s", difference)
	}
}

func TestDefaultNames(t *testing.T) {
	for text, want := range map[string]string{
		`{address: "10.0.0.1:80"}`:                          "tcp-10.0.0.1-80",
		`{address: "2001:db8::1", port: 53, protocol: udp}`: "udp-2001-db8--1-53",
		`{address: 10.0.0.1}`:                               "tcp-10.0.0.1-any",
	} {
		var m Manifest
		s, err := testRules().create(&m, parse(t, "services: ["+text+"]").Services[0])
		if err != nil || s.Name != want {
			t.Errorf("%s is named %q, %v, want %q", text, s.Name, err, want)
		}
	}
}

// A mistake in a manifest is told with its place, its field and what is allowed.
func TestManifestErrors(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"weight":             {"services:\n  - address: 10.0.0.1:80\n    backends:\n      - address: 10.1.0.1\n        weight: 1200\n", `test.yaml:5:9: services[0] "tcp-10.0.0.1-80": backends[0]: weight: 1200 is not within 0..1000`},
		"unknown key":        {"services:\n  - adress: 10.0.0.1\n", `test.yaml:2:5: `},
		"wrong type":         {"services:\n  - address: 10.0.0.1\n    port: many\n", `test.yaml:3:5: `},
		"port too large":     {"services:\n  - address: 10.0.0.1\n    port: 70000\n", `test.yaml:3:5: `},
		"no address":         {"services:\n  - name: web\n", `"web": address: is missing`},
		"bad address":        {"services:\n  - address: 10.0.0.256\n", `"10.0.0.256" is no address`},
		"protocol":           {"services:\n  - address: 10.0.0.1\n    protocol: dccp\n", `"dccp" is no protocol (known: tcp, udp, sctp)`},
		"mode":               {"services:\n  - address: 10.0.0.1\n    mode: dsr\n", `"dsr" is no mode (known: nat, l2, ipip, gue)`},
		"family":             {"services:\n  - address: 10.0.0.1:80\n    backends: [{address: \"2001:db8::1\"}]\n", `only modes ipip and gue allow`},
		"port of l2":         {"services:\n  - address: 10.0.0.1:80\n    mode: l2\n    backends: [{address: \"10.1.0.1:8080\"}]\n", `only mode nat allows`},
		"two ports":          {"services:\n  - address: 10.0.0.1:80\n    port: 81\n", `81 contradicts the address's 80`},
		"same key":           {"services:\n  - {name: a, address: \"10.0.0.1:80\"}\n  - {name: b, address: \"10.0.0.1:80\"}\n", `services[1] "b": address: 10.0.0.1:80/tcp is also that of services[0]`},
		"same name":          {"services:\n  - {name: a, address: \"10.0.0.1:80\"}\n  - {name: a, address: \"10.0.0.1:81\"}\n", `is also that of services[0]`},
		"same backend":       {"services:\n  - address: 10.0.0.1:80\n    backends: [{address: 10.1.0.1}, {address: 10.1.0.1, name: b}]\n", `is also that of backends[0]`},
		"own address":        {"services:\n  - address: 10.0.0.1:80\n    backends: [{address: 10.0.0.1}]\n", `is the service's own`},
		"name":               {"services:\n  - {name: Web, address: \"10.0.0.1:80\"}\n", `"Web" is no name`},
		"interval":           {"services:\n  - address: 10.0.0.1:80\n    probe: {interval: 1ms}\n", `1ms is not within 5ms..1h`},
		"probe without port": {"services:\n  - address: 10.0.0.1\n    probe: {type: tcp}\n    backends: [{address: 10.1.0.1}]\n", `probe: port: is needed`},
		"no services":        {"service: []\n", `test.yaml:1:1: `},
		"empty":              {"", `the key "services" is missing`},
		"two documents":      {"services: []\n---\nservices: []\n", `a second document`},
		"no YAML":            {"services: [", `test.yaml:1:`},
		"repeated key":       {"services: []\nservices: []\n", `test.yaml:2:1`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest("test.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// JSON is YAML.
func TestManifestInJSON(t *testing.T) {
	got := parse(t, `{"services": [{"name": "web", "address": "192.0.2.1", "port": 80, "backends": [{"name": "one", "address": "198.51.100.1"}, {"name": "two", "address": "198.51.100.2", "port": 8080, "weight": 50}]}]}`)
	if difference := cmp.Diff(parse(t, web), got, cmpOptions); difference != "" {
		t.Error(difference)
	}
}

// Applying what was exported changes nothing.
func TestExportApplies(t *testing.T) {
	r := testRules()
	m := apply(t, r, Manifest{}, parse(t, web+`
  - address: "[2001:db8::1]:53"
    protocol: udp
    mode: ipip
    probe: {type: tcp, port: 53, fall: 5}
    backends: [{address: 198.51.100.9, state: draining}]
  - address: 192.0.2.9
    backends: []
  - address: "192.0.2.8:443"
    probe: {type: https, method: HEAD, path: "/?a=1", host: www.example, status: "200-204,301", body: "^ok: .*$", insecure: true, profile: fast, port: 8443,
      source: 192.0.2.7, via: backend, interval: 20ms, timeout: 1m, rise: 1, fall: 100}
    health: {slow-start: off, damping: 1h, panic-threshold: 33.3333333%, max-ejected: 0%, minimum: 2}
    load: {type: prometheus, path: /m, metric: 'busy{pool="web"}', full: 0.5, port: 9100, interval: 250ms}
    backends:
      - {address: 198.51.100.1, state: standby, probe: {type: tcp, send: '\x00\r\n', expect: "^\\+OK"}}
      - {address: 198.51.100.2, probe: {type: none}}
`), false)
	text, err := m.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	exported, err := ParseManifest("export.yaml", text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	result, err := r.apply(&m, ApplyRequest{Services: exported.Services, Prune: true})
	if err != nil || len(result.Changes) != 0 {
		t.Errorf("applying the export changes %+v, %v:\n%s", result.Changes, err, text)
	}
}

func apply(t *testing.T, r rules, m, listed Manifest, prune bool) Manifest {
	t.Helper()
	if _, err := r.apply(&m, ApplyRequest{Services: listed.Services, Prune: prune}); err != nil {
		t.Fatal(err)
	}
	return m
}

// Apply says what it changes; what is not listed stays unless it is pruned.
func TestApply(t *testing.T) {
	r := testRules()
	before := apply(t, r, Manifest{}, parse(t, web+"  - {name: old, address: \"192.0.2.2:80\"}\n"), false)
	listed := parse(t, `
services:
  - name: web
    address: 192.0.2.1:80
    mode: nat
    backends:
      - {name: two, address: "198.51.100.2:8080", weight: 70}
      - {name: three, address: 198.51.100.3}
  - {name: new, address: "192.0.2.3:80"}
`)
	changes := []Change{
		{ActionCreate, KindService, "new", "192.0.2.3:80/tcp nat, 0 backends"},
		{ActionUpdate, KindBackend, "web/two", "weight 50 -> 70"},
		{ActionCreate, KindBackend, "web/three", "198.51.100.3:80 weight 100"},
		{ActionRemove, KindBackend, "web/one", "198.51.100.1:80 weight 100"},
	}
	m := before.clone()
	result, err := r.apply(&m, ApplyRequest{Services: listed.Services})
	if difference := cmp.Diff(ApplyResult{Changes: changes, Kept: []string{"old"}}, result); err != nil || difference != "" {
		t.Errorf("%v, differs (-want +got):\n%s", err, difference)
	}
	m = before.clone()
	result, err = r.apply(&m, ApplyRequest{Services: listed.Services, Prune: true})
	if err != nil || len(result.Kept) != 0 || result.Changes[1] != (Change{ActionRemove, KindService, "old", "192.0.2.2:80/tcp nat, 0 backends"}) {
		t.Errorf("with prune: %+v, %v", result, err)
	}
	if _, err := m.find("old"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the pruned service: error is %v", err)
	}
}

// Conflicts and limits are refused whole.
func TestRefusals(t *testing.T) {
	r := testRules()
	m := apply(t, r, Manifest{}, parse(t, web), false)
	for name, test := range map[string]struct {
		change func(m *Manifest) error
		want   error
	}{
		"name in use": {func(m *Manifest) error {
			_, err := r.create(m, parse(t, "services: [{name: web, address: 192.0.2.8}]").Services[0])
			return err
		}, ErrConflict},
		"key in use": {func(m *Manifest) error {
			_, err := r.create(m, parse(t, "services: [{name: b, address: \"192.0.2.1:80\"}]").Services[0])
			return err
		}, ErrConflict},
		"backend in use": {func(m *Manifest) error {
			_, err := r.addBackend(m, "web", Backend{Address: netip.MustParseAddr("198.51.100.1")})
			return err
		}, ErrConflict},
		"no service": {func(m *Manifest) error { return r.remove(m, "nothing") }, ErrNotFound},
		"no backend": {func(m *Manifest) error { return r.removeBackend(m, "web", "nothing") }, ErrNotFound},
		"bad weight": {func(m *Manifest) error {
			_, err := r.updateBackend(m, "web", "one", BackendPatch{Weight: new(-1)})
			return err
		}, ErrInvalid},
		"bad state": {func(m *Manifest) error {
			_, err := r.updateBackend(m, "web", "one", BackendPatch{State: new(State("gone"))})
			return err
		}, ErrInvalid},
		"mode forbids": {func(m *Manifest) error {
			_, err := r.update(m, "web", ServicePatch{Mode: new(dataplane.ModeL2)})
			return err
		}, ErrInvalid},
		"too many backends": {func(m *Manifest) error {
			var err error
			for n := 10; err == nil; n++ {
				_, err = r.addBackend(m, "web", Backend{Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})})
			}
			return err
		}, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			next := m.clone()
			if err := test.change(&next); !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
}

// Sets of backends that rules name count as services. When a limit was lowered below what is there, what shrinks or stays
// is allowed, and only what grows is refused.
func TestLimits(t *testing.T) {
	backend := func(m *Manifest, n byte, set string) error {
		_, err := testRules().addBackend(m, "web", Backend{Address: netip.AddrFrom4([4]byte{198, 51, 100, n}), Set: set})
		return err
	}
	full := apply(t, testRules(), Manifest{}, parse(t, web), false)
	for n, set := range []string{"a", "b", "c"} { // with the service that is all of limits.services
		if err := backend(&full, byte(10+n), set); err != nil {
			t.Fatal(err)
		}
	}
	rulesFor := func(sets ...string) ServicePatch {
		var sources []dataplane.SourceRule
		for n, set := range sets {
			sources = append(sources, dataplane.SourceRule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n)}), 16), Set: set})
		}
		return ServicePatch{Sources: &sources}
	}
	if _, err := testRules().update(&full, "web", rulesFor("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if err := backend(&full, 13, "d"); err != nil {
		t.Errorf("a set that no rule names: %v", err)
	}
	lowered := rules{defaults: builtinDefaults, limits: dataplane.Limits{Services: 2, Backends: 3}}
	without := full.clone()
	without.Services[0].Backends = without.Services[0].Backends[:5]
	for name, test := range map[string]struct {
		change  func(m *Manifest) error
		refused string
	}{
		"one more set": {func(m *Manifest) error {
			_, err := testRules().update(m, "web", rulesFor("a", "b", "c", "d"))
			return err
		}, "5 services and sets of backends are more than the 4 of limits.services"},
		"one more service": {func(m *Manifest) error {
			_, err := testRules().create(m, parse(t, "services: [{address: 192.0.2.8}]").Services[0])
			return err
		}, "5 services and sets of backends"},
		"one backend less": {func(m *Manifest) error { return lowered.removeBackend(m, "web", "one") }, ""},
		"a manifest with one backend less": {func(m *Manifest) error {
			_, err := lowered.apply(m, ApplyRequest{Services: without.Services})
			return err
		}, ""},
		"another weight": {func(m *Manifest) error {
			_, err := lowered.updateBackend(m, "web", "one", BackendPatch{Weight: new(1)})
			return err
		}, ""},
		"one backend more": {func(m *Manifest) error {
			_, err := lowered.addBackend(m, "web", Backend{Address: netip.MustParseAddr("198.51.100.20")})
			return err
		}, "7 backends are more than the 3 of limits.backends"},
	} {
		t.Run(name, func(t *testing.T) {
			m := full.clone()
			err := test.change(&m)
			if (err != nil) != (test.refused != "") || err != nil && !(errors.Is(err, ErrInvalid) && strings.Contains(err.Error(), test.refused)) {
				t.Errorf("error is %v, want %q", err, test.refused)
			}
		})
	}
}

// Services and backends are found by name or address.
func TestReferences(t *testing.T) {
	m := apply(t, testRules(), Manifest{}, parse(t, web+`
  - {name: dns, address: "192.0.2.1:53", protocol: udp}
  - {name: six, address: "[2001:db8::1]:80"}
`), false)
	for ref, want := range map[string]string{
		"web": "web", "192.0.2.1:80": "web", "192.0.2.1:80/tcp": "web", "192.0.2.1:53/udp": "dns",
		"2001:db8::1": "six", "[2001:db8::1]:80": "six",
		"192.0.2.1": "ambiguous", "192.0.2.1:80/udp": "none", "192.0.2.7": "none", "": "none",
	} {
		i, err := m.find(ref)
		switch {
		case errors.Is(err, ErrInvalid) && want == "ambiguous", errors.Is(err, ErrNotFound) && want == "none":
		case err != nil || m.Services[i].Name != want:
			t.Errorf("%q finds %d, %v, want %s", ref, i, err, want)
		}
	}
	for ref, want := range map[string]int{"one": 0, "198.51.100.2": 1, "198.51.100.2:8080": 1} {
		if i, err := m.Services[0].find(ref); err != nil || i != want {
			t.Errorf("backend %q is %d, %v, want %d", ref, i, err, want)
		}
	}
}
