package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/dataplane"
)

func TestConfig(t *testing.T) {
	c, err := parseConfig("sluice.yaml", []byte("interfaces: [eth0]\nnat: {ports: 2000-3000}\nprobe-path: {mark: 0x51d00000}\nlimits: {flows: 1000}\ndefaults: {mode: l2, probe: {interval: 1s}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.ProbePath != (dataplane.ProbePath{Mark: 0x51d00000}) {
		t.Errorf("the path of probes is %+v", c.ProbePath)
	}
	if c.NAT.Ports != (dataplane.PortRange{First: 2000, Last: 3000}) || c.Limits.Flows != 1000 || c.Limits.Services != 4096 ||
		c.Defaults.Mode != dataplane.ModeL2 || c.Defaults.Probe.Interval != Duration(time.Second) || c.Probes.Rate != 2000 {
		t.Errorf("the configuration is %+v", c)
	}
}

// A mistake is told with file, line, column and key.
func TestConfigErrors(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown key":   {"interfaces: [eth0]\nxpd-mode: auto\n", "sluice.yaml:2:1: xpd-mode: "},
		"wrong type":    {"interfaces: [eth0]\nlimits: {flows: many}\n", "sluice.yaml:2:10: limits.flows: "},
		"no interfaces": {"log: {level: debug}\n", "interfaces: is missing"},
		"empty":         {"", "interfaces: is missing"},
		"twice":         {"interfaces: [eth0, eth0]\n", "sluice.yaml:1:20: interfaces[1]: eth0 is listed twice"},
		"interface":     {"interfaces: [an-interface-that-is-too-long]\n", "is no name of an interface"},
		"XDP mode":      {"interfaces: [eth0]\nxdp-mode: fast\n", `"fast" is no XDP mode (known: auto, native, generic)`},
		"ports":         {"interfaces: [eth0]\nnat: {ports: 3000-2000}\n", `"3000-2000" is no range of ports`},
		"probe path":    {"interfaces: [eth0]\nprobe-path: {mark: 0x51c00001}\n", "sluice.yaml:2:1: probe-path: mark 0x51c00001 is no multiple of 0x100000"},
		"limit":         {"interfaces: [eth0]\nlimits: {backends: 1048576}\n", "1048576 is not within 1..1048575"},
		"table":         {"interfaces: [eth0]\nlimits: {table-slots: 7}\n", "7 is not within 251..8388593"},
		"level":         {"interfaces: [eth0]\nlog: {level: loud}\n", `"loud" is no level`},
		"format":        {"interfaces: [eth0]\nlog: {format: xml}\n", `"xml" is no format`},
		"address":       {"interfaces: [eth0]\nmetrics: {address: nowhere}\n", `"nowhere" is no host:port`},
		"mode":          {"interfaces: [eth0]\napi: {mode: \"0999\"}\n", `"0999" is no octal file mode`},
		"group":         {"interfaces: [eth0]\napi: {group: no-such-group}\n", `there is no group "no-such-group"`},
		"pin path":      {"interfaces: [eth0]\npin-path: here\n", `"here" is no absolute path`},
		"probe":         {"interfaces: [eth0]\ndefaults: {probe: {fall: 1000}}\n", "1000 is not within 1..100"},
		"probe type":    {"interfaces: [eth0]\ndefaults: {probe: {type: tcp}}\n", "defaults.probe.type: belongs to a service"},
		"what is asked": {"interfaces: [eth0]\ndefaults: {probe: {path: /health}}\n", "sluice.yaml:2:20: defaults.probe.path: belongs to a service"},
		"probe profile": {"interfaces: [eth0]\ndefaults: {probe: {profile: slow}}\n", `"slow" is no profile (known: default, fast, gentle)`},
		"slow start":    {"interfaces: [eth0]\ndefaults: {health: {slow-start: soon}}\n", `"soon" is neither off nor a duration such as 10s`},
		"share":         {"interfaces: [eth0]\nprobes: {share: 200%}\n", `"200%" is no share within 0%..100%`},
		"rate":          {"interfaces: [eth0]\nprobes: {rate: 0}\n", "probes.rate: 0 is not within 1..1000000"},
		"learners":      {"interfaces: [eth0]\nforecast: {services: 1001}\n", "sluice.yaml:2:12: forecast.services: 1001 is not within 0..1000"},
		"no time":       {"interfaces: [eth0]\nforecast: {share: 0%}\n", "forecast.share: 0% is not above 0%"},
		"zone":          {"interfaces: [eth0]\nforecast: {zone: Moon}\n", `forecast.zone: "Moon" is no time zone`},
		"calendar":      {"interfaces: [eth0]\nforecast: {calendar: /no/such/file}\n", "forecast.calendar: reading the calendar: open /no/such/file"},
		"no YAML":       {"interfaces: [eth0\n", "sluice.yaml:"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig("sluice.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// The examples that are shipped are right.
func TestExamples(t *testing.T) {
	if _, err := LoadConfig("../deploy/sluice.yaml"); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile("../deploy/services.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseManifest("services.yaml", text); err != nil {
		t.Error(err)
	}
}

// The socket has its mode, replaces a dead one, and leaves a living one alone.
func TestSocket(t *testing.T) {
	api := APIConfig{Socket: filepath.Join(t.TempDir(), "run", "s.sock"), Mode: 0o600}
	first, err := api.listen()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(api.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if _, err := api.listen(); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("with a living daemon: error is %v", err)
	}
	first.Close()
	second, err := api.listen()
	if err != nil {
		t.Fatalf("with a dead daemon's socket: %v", err)
	}
	second.Close()
	file := APIConfig{Socket: filepath.Join(t.TempDir(), "file")}
	if err := os.WriteFile(file.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.listen(); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("with a file in its place: error is %v", err)
	}
}
