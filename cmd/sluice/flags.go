package main

import (
	"encoding"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// optional defines a flag whose target stays nil unless the flag is given.
func optional[T any](cmd *cobra.Command, target **T, name, usage string, parse func(string) (T, error)) {
	cmd.Flags().Func(name, usage, func(text string) error {
		value, err := parse(text)
		*target = &value
		return err
	})
}

// fromText parses a type that knows its text.
func fromText[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](text string) (value T, err error) {
	err = P(&value).UnmarshalText([]byte(text))
	return value, err
}

func fromString[T ~string](text string) (T, error) { return T(text), nil }

func fromNumber(text string) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", text)
	}
	return number, nil
}

// weightFlag defines --weight. Its range is checked by the daemon.
func weightFlag(cmd *cobra.Command, target **int) {
	optional(cmd, target, "weight", "share of new flows, `0..1000`; 0 takes none, 100 is usual", fromNumber)
}

func stateFlag(cmd *cobra.Command, target **control.State) {
	optional(cmd, target, "state", "desired state: `up|draining|down`", fromString[control.State])
	completeFlag(cmd, "state", string(control.StateUp), string(control.StateDraining), string(control.StateDown))
}

func modeFlag(cmd *cobra.Command, target **dataplane.Mode) {
	optional(cmd, target, "mode", "how packets reach backends: `nat|l2|ipip|gue`", fromText[dataplane.Mode])
	completeFlag(cmd, "mode", "nat", "l2", "ipip", "gue")
}

// xdpModeFlag defines --xdp-mode, by default auto.
func xdpModeFlag(cmd *cobra.Command, target *dataplane.XDPMode) {
	cmd.Flags().TextVar(target, "xdp-mode", dataplane.XDPAuto, "where the program runs: `auto|native|generic`")
	completeFlag(cmd, "xdp-mode", "auto", "native", "generic")
}

// pinPathFlag defines --pin-path, by default that of the daemon's configuration.
func pinPathFlag(cmd *cobra.Command, target *string) {
	cmd.Flags().StringVar(target, "pin-path", control.DefaultConfig().PinPath, "`FOLDER` in a BPF file system that holds the pinned programs")
	_ = cmd.MarkFlagDirname("pin-path") // fails only for an unknown flag
}

// probeFlags define how a service's backends are watched. The targets stay zero unless a flag is given, and
// zero means the daemon's default, so none of them takes a zero.
func probeFlags(cmd *cobra.Command, p *control.Probe) {
	flags := cmd.Flags()
	flags.StringVar((*string)(&p.Type), "probe", "", "how backends are watched: `tcp|none`")
	completeFlag(cmd, "probe", string(control.ProbeTCP), string(control.ProbeNone))
	portFlag(cmd, &p.Port, "probe-port", "`PORT` to probe, by default the backend's")
	for name, target := range map[string]*control.Duration{"probe-interval": &p.Interval, "probe-timeout": &p.Timeout} {
		flags.Func(name, "a `DURATION` such as 200ms", func(text string) error {
			err := target.UnmarshalText([]byte(text))
			return positive(text, *target, "a duration above 0, such as 200ms", err)
		})
	}
	flags.Func("rise", "`COUNT` of successes in a row that bring a backend back", func(text string) (err error) {
		p.Rise, err = strconv.Atoi(text)
		return positive(text, p.Rise, "a count above 0", err)
	})
	flags.Func("fall", "`COUNT` of failures in a row that take a backend out", func(text string) (err error) {
		p.Fall, err = strconv.Atoi(text)
		return positive(text, p.Fall, "a count above 0", err)
	})
}

// portFlag defines a flag for a port, which stays 0 unless the flag is given.
func portFlag(cmd *cobra.Command, target *uint16, name, usage string) {
	cmd.Flags().Func(name, usage, func(text string) error {
		port, err := strconv.ParseUint(text, 10, 16)
		*target = uint16(port)
		return positive(text, *target, "a port, 1 to 65535", err)
	})
}

func positive[T uint16 | int | control.Duration](text string, value T, what string, err error) error {
	if err != nil || value <= 0 {
		return fmt.Errorf("%q is not %s", text, what)
	}
	return nil
}

// parseAddress reads an ADDRESS[:PORT] argument.
func parseAddress(text string) (control.Backend, error) {
	address, port, err := control.ParseAddress(text)
	if err != nil {
		return control.Backend{}, invalidInput("%v", err)
	}
	return control.Backend{Address: address, Port: port}, nil
}
