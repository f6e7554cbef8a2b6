package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/health/load"
	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
)

type watched struct {
	probe  control.Probe
	health control.Health
	load   control.Load
}

func parseWatched(line string) (w watched, err error) {
	cmd := &cobra.Command{}
	probeFlags(cmd, &w.probe)
	healthFlags(cmd, &w.health, &w.load)
	return w, cmd.ParseFlags(strings.Fields(line))
}

// Flags of structs set the field that is called so in manifests, and no other.
func TestStructFlags(t *testing.T) {
	for line, want := range map[string]watched{
		"":                                   {},
		"--probe https --probe-path /health": {probe: control.Probe{Spec: probe.Spec{Kind: probe.HTTPS, Path: "/health"}}},
		"--probe-insecure --probe-tls=true":  {probe: control.Probe{Spec: probe.Spec{Insecure: true, TLS: true}}},
		"--probe-profile fast --probe-port 65535 --rise 1 --fall 2": {
			probe: control.Probe{Profile: health.ProfileFast, Port: 65535, Rise: 1, Fall: 2}},
		"--probe-interval 1m30s":                       {probe: control.Probe{Interval: control.Duration(90 * time.Second)}},
		"--slow-start 0s --max-ejected 0% --minimum 3": {health: control.Health{SlowStart: -1, MaxEjected: -1, Minimum: 3}},
		"--damping off --panic-threshold 33.3%":        {health: control.Health{Damping: -1, PanicThreshold: 33.3}},
		"--load prometheus --load-metric busy --load-full 0.5 --load-interval 2s": {
			load: control.Load{Spec: load.Spec{Kind: load.Prometheus, Metric: "busy", Full: 0.5}, Interval: control.Duration(2 * time.Second)}},
	} {
		if got, err := parseWatched(line); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
}

// What is no value, or would mean the same as no flag, is refused with what is allowed.
func TestStructFlagErrors(t *testing.T) {
	for line, want := range map[string]string{
		"--probe-port 0":          `"0" is no number above 0`,
		"--probe-port 70000":      `"70000" is no number above 0`,
		"--rise many":             `"many" is no number above 0`,
		"--load-full 0":           `"0" is no number above 0`,
		"--probe-interval soon":   `"soon" is no duration such as 200ms`,
		"--probe-interval 0s":     `"0s" is no duration above 0, such as 200ms`,
		"--probe-insecure=false":  `"false" is no true, or leave the flag out`,
		"--probe-insecure=always": `"always" is no true, or leave the flag out`,
		"--probe-path=":           `"" is no value`,
		"--slow-start soon":       `"soon" is neither off nor a duration such as 10s`,
		"--max-ejected 10":        `"10" is no share within 0%..100%`,
		"--probe-source here":     `here`,
	} {
		if _, err := parseWatched(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
