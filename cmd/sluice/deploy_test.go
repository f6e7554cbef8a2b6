package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicelb/sluice/control"
)

const deploy = "../../deploy/"

func TestDeployedConfiguration(t *testing.T) {
	config, err := control.LoadConfig(deploy + "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defaults := control.DefaultConfig()
	defaults.Interfaces = config.Interfaces
	if diff := cmp.Diff(defaults, config, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the file says that it shows the defaults (-default +file):\n%s", diff)
	}
}

func TestDeployedManifest(t *testing.T) {
	s := newSession(t)
	s.run("apply -f " + deploy + "services.yaml")
	s.golden()
}

func readUnit(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile(filepath.Join(deploy, "sluice.service"))
	check(t, err)
	return string(unit)
}

func TestDeployedUnit(t *testing.T) {
	unit := readUnit(t)
	for _, want := range []string{"\nType=notify\n", "\nRestart=always\n", " run --config " + defaultConfig + "\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(unit, "\nExecStop") {
		t.Error("stopping the daemon must not touch the kernel")
	}
}

// The daemon starts and serves with no capabilities but the unit's.
func TestDeployedCapabilities(t *testing.T) {
	_, after, _ := strings.Cut(readUnit(t), "\nCapabilityBoundingSet=")
	names, _, _ := strings.Cut(after, "\n")
	set := "-all"
	for name := range strings.FieldsSeq(names) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	s := sessionWithoutDaemon(t)
	serveAPI(t, s.socket, "setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set="+set)
	s.run("service add web 10.0.0.1:80 --backend 192.168.1.11")
	if out := s.run("status -o json"); !strings.Contains(out, `"mode": "native"`) {
		t.Error(s.transcript.String())
	}
}
