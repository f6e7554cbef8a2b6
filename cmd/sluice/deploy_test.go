package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	if diff := cmp.Diff(defaults, config); diff != "" {
		t.Errorf("the file says that it shows the defaults (-default +file):\n%s", diff)
	}
}

func TestDeployedManifest(t *testing.T) {
	s := newSession(t)
	s.run("apply -f " + deploy + "services.yaml")
	s.golden()
}

func TestDeployedUnit(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(deploy, "sluice.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nType=notify\n", "\nRestart=always\n", " run --config " + defaultConfig + "\n"} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(string(unit), "\nExecStop") {
		t.Error("stopping the daemon must not touch the kernel")
	}
}
