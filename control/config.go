package control

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/dataplane/dispatcher"
)

// Config is the daemon's configuration, the file sluice.yaml.
type Config struct {
	Interfaces  []string          `json:"interfaces"` // the only key that must be there
	XDPMode     dataplane.XDPMode `json:"xdp-mode"`
	XDPShare    bool              `json:"xdp-share"`    // interfaces, with programs of other tools
	XDPPriority uint32            `json:"xdp-priority"` // among those, the lowest runs first
	PinPath     string            `json:"pin-path"`
	Store       string            `json:"store"`
	API         APIConfig         `json:"api"`
	Metrics     MetricsConfig     `json:"metrics"`
	Log         LogConfig         `json:"log"`
	NAT         NATConfig         `json:"nat"`
	HashSeed    uint32            `json:"hash-seed"`
	Limits      dataplane.Limits  `json:"limits"`
	Probes      ProbesConfig      `json:"probes"`
	Forecast    ForecastConfig    `json:"forecast"`
	Scale       ScaleConfig       `json:"scale"`
	Defaults    Defaults          `json:"defaults"`

	ProbePath dataplane.ProbePath `json:"probe-path"` // of probes that travel like traffic
}

// APIConfig says where the API is served and who may use it.
type APIConfig struct {
	Socket string   `json:"socket"`
	Mode   FileMode `json:"mode"`
	Group  string   `json:"group"` // name or number, "" is the daemon's own
}

// MetricsConfig says where /metrics is served.
type MetricsConfig struct {
	Address string `json:"address"` // host:port, "" is nowhere
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  Level  `json:"level"`
	Format string `json:"format"` // "text" or "json"
}

// NATConfig holds what only nat mode needs.
type NATConfig struct {
	Ports dataplane.PortRange `json:"ports"` // zero: chosen by the dataplane
}

// DefaultConfig returns the configuration of an empty file.
func DefaultConfig() Config {
	return Config{
		XDPPriority: dispatcher.DefaultPriority,
		PinPath:     "/sys/fs/bpf/sluice",
		Store:       "/var/lib/sluice/sluice.db",
		API:         APIConfig{Socket: "/run/sluice/sluice.sock", Mode: 0o660},
		Metrics:     MetricsConfig{Address: "127.0.0.1:9433"},
		Log:         LogConfig{Level: Level(slog.LevelInfo), Format: "text"},
		Limits:      dataplane.DefaultLimits,
		Probes:      ProbesConfig{Rate: 2000, Share: 0.1},
		Forecast:    ForecastConfig{Services: 24, Share: 5},
		Scale:       ScaleConfig{Fleet: "sluice"},
		Defaults:    builtinDefaults,
	}
}

// LoadConfig reads a configuration file. An error names file, line, column and key, and what is allowed.
func LoadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return parseConfig(path, data)
}

func parseConfig(name string, data []byte) (Config, error) {
	config := DefaultConfig()
	d, err := parseYAML(name, data)
	if err != nil {
		return Config{}, err
	}
	problem := d.decode(&config)
	if problem == nil {
		problem = config.check()
	}
	if problem != nil {
		return Config{}, tag(ErrInvalid, "%s: %s", d.at(problem.Path), strings.TrimPrefix(problem.Path+": "+problem.Problem, ": "))
	}
	return config, nil
}

func (c *Config) check() *FieldError {
	for _, check := range []func() *FieldError{
		c.checkInterfaces, c.checkPlaces, c.checkProbePath, c.checkLimits, c.checkForecast, c.checkScale, c.checkDefaults,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkInterfaces() *FieldError {
	if len(c.Interfaces) == 0 {
		return invalid("interfaces", "is missing; list the interfaces that clients' and backends' packets arrive on")
	}
	for i, name := range c.Interfaces {
		path := fmt.Sprintf("interfaces[%d]", i)
		// The rules of dev_valid_name in the kernel's net/core/dev.c.
		if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
			return invalid(path, "%q is no name of an interface", name)
		}
		if slices.Contains(c.Interfaces[:i], name) {
			return invalid(path, "%s is listed twice", name)
		}
	}
	return nil
}

// maxSocketPath is the size of sun_path in the kernel's sockaddr_un less its final zero byte.
const maxSocketPath = 107

func (c *Config) checkPlaces() *FieldError {
	if !filepath.IsAbs(c.PinPath) {
		return invalid("pin-path", "%q is no absolute path", c.PinPath)
	}
	if c.Store == "" {
		return invalid("store", "is empty; give the path of a file")
	}
	// The socket is made beside its final place, under a name that is a little longer.
	if c.API.Socket == "" || len(c.API.Socket)+len(temporarySuffix) > maxSocketPath {
		return invalid("api.socket", "%q is no path of 1..%d bytes", c.API.Socket, maxSocketPath-len(temporarySuffix))
	}
	if _, err := c.API.groupID(); err != nil {
		return invalid("api.group", "%v", err)
	}
	if c.Metrics.Address != "" {
		_, port, err := net.SplitHostPort(c.Metrics.Address)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return invalid("metrics.address", `%q is no host:port such as 127.0.0.1:9433 ("" switches metrics off)`, c.Metrics.Address)
		}
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return invalid("log.format", "%q is no format (known: text, json)", c.Log.Format)
	}
	return nil
}

// groupID is the number of the socket's group, -1 when it is not to be changed.
func (a APIConfig) groupID() (int, error) {
	if a.Group == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(a.Group); err == nil && id >= 0 {
		return id, nil
	}
	group, err := user.LookupGroup(a.Group)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q on this host", a.Group)
	}
	return strconv.Atoi(group.Gid)
}

func (c *Config) checkProbePath() *FieldError {
	if err := c.ProbePath.Check(); err != nil {
		return invalid("probe-path", "%v", err)
	}
	return nil
}

func (c *Config) checkLimits() *FieldError {
	for _, limit := range []struct {
		key             string
		value           uint32
		lowest, highest uint32
	}{
		{"services", c.Limits.Services, 1, 1 << 16},
		{"backends", c.Limits.Backends, 1, dataplane.MaxBackends},
		{"slots", c.Limits.Slots, 1 << 10, 1 << 28},
		{"table-slots", c.Limits.TableSlots, 251, 8388593},
		{"flows", c.Limits.Flows, 1, 1 << 26},
	} {
		if limit.value < limit.lowest || limit.value > limit.highest {
			return invalid("limits."+limit.key, "%d is not within %d..%d", limit.value, limit.lowest, limit.highest)
		}
	}
	return nil
}

func (c *Config) checkDefaults() *FieldError {
	p := &c.Defaults.Probe
	spec := reflect.ValueOf(p.Spec) // what is asked of backends
	for i := range spec.NumField() {
		if !spec.Field(i).IsZero() {
			return invalid("defaults.probe."+keyOf(spec.Type().Field(i)), "belongs to a service")
		}
	}
	switch {
	case p.Port != 0:
		return invalid("defaults.probe.port", "belongs to a service")
	case p.Source.IsValid():
		return invalid("defaults.probe.source", "belongs to a service")
	case c.Probes.Rate < 1 || c.Probes.Rate > maxProbeRate:
		return invalid("probes.rate", "%d is not within 1..%d probes per second", c.Probes.Rate, maxProbeRate)
	}
	if err := p.check(); err != nil {
		return err.under("defaults.probe", "")
	}
	if err := c.Defaults.Health.check(); err != nil {
		return err.under("defaults.health", "")
	}
	return nil
}

// FileMode is the permission bits of a file; its text is octal, such as "0660".
type FileMode fs.FileMode

// MarshalText returns for example "0660".
func (m FileMode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText accepts octal numbers up to 0777.
func (m *FileMode) UnmarshalText(text []byte) error {
	bits, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || bits > 0o777 {
		return fmt.Errorf("%q is no octal file mode such as 0660", text)
	}
	*m = FileMode(bits)
	return nil
}

// Level is a slog.Level that has a name.
type Level slog.Level

// MarshalText returns "debug", "info", "warn" or "error".
func (l Level) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(slog.Level(l).String())), nil
}

// UnmarshalText accepts "debug", "info", "warn" and "error".
func (l *Level) UnmarshalText(text []byte) error {
	for _, known := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(known.String(), string(text)) {
			*l = Level(known)
			return nil
		}
	}
	return fmt.Errorf("%q is no level (known: debug, info, warn, error)", text)
}
