package failover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/stage"
)

// profiles are the probes that are compared, by name, as a manifest has them.
var profiles = map[string]string{
	"default": "{type: http}",
	"fast":    "{type: http, profile: fast}",
	"gentle":  "{type: http, profile: gentle}",
}

// Profiles returns the names of the known profiles, sorted.
func Profiles() []string { return sortedKeys(profiles) }

// manifest is the service, without its backends. One that failed returns at once with its whole weight, for the next trial.
const manifest = `services:
- name: ` + serviceName + `
  address: ` + stage.ServiceAddress + `
  port: ` + servicePort + `
  mode: %s
  probe: %s
  health: {damping: off, slow-start: off}
  backends:
`

// services is the desired state for a profile and a mode.
func (s *site) services(profile string, mode dataplane.Mode) ([]control.Service, error) {
	var text strings.Builder
	fmt.Fprintf(&text, manifest, mode, profiles[profile])
	for _, b := range s.backends {
		fmt.Fprintf(&text, "  - {name: %s, address: %s}\n", b.name, b.address)
	}
	m, err := control.ParseManifest("the manifest of the profile "+profile, []byte(text.String()))
	return m.Services, err
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
