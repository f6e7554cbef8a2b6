package main

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

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
	optional(cmd, target, "state", "desired state: `up|draining|down|standby`", fromString[control.State])
	completeFlag(cmd, "state", string(control.StateUp), string(control.StateDraining), string(control.StateDown), string(control.StateStandby))
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

// probeFlags define how backends are watched. The targets stay zero unless a flag is given, and zero means what
// encloses them says, so none of them takes a zero.
func probeFlags(cmd *cobra.Command, p *control.Probe) {
	structFlags(cmd, "probe", reflect.ValueOf(p).Elem())
}

// healthFlags define how backends come and go, and how they are asked for their load.
func healthFlags(cmd *cobra.Command, h *control.Health, l *control.Load) {
	structFlags(cmd, "", reflect.ValueOf(h).Elem())
	structFlags(cmd, "load", reflect.ValueOf(l).Elem())
}

// shortNames are flags without the name of their struct.
var shortNames = []string{"rise", "fall"}

// structFlags define a flag for each field of a struct, as it is called in manifests: "probe-path" for the path of a probe,
// "probe" for its type.
func structFlags(cmd *cobra.Command, prefix string, v reflect.Value) {
	for _, field := range reflect.VisibleFields(v.Type()) {
		if field.Anonymous {
			continue
		}
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		name := prefix + "-" + key
		switch {
		case key == "type":
			name = prefix
		case prefix == "" || slices.Contains(shortNames, key):
			name = key
		}
		to := fieldFlag{v.FieldByIndex(field.Index), field.Tag.Get("enum")}
		flag := cmd.Flags().VarPF(to, name, "", field.Tag.Get("doc"))
		if to.Kind() == reflect.Bool {
			flag.NoOptDefVal = "true"
		}
		if to.known != "" {
			completeFlag(cmd, name, strings.Split(to.known, ",")...)
		}
	}
}

// fieldFlag is a flag that sets a field of a struct.
type fieldFlag struct {
	reflect.Value
	known string // values, separated by commas; "" where others are possible
}

// Set parses a value of the field's type, which must not be its zero.
func (f fieldFlag) Set(text string) error {
	var err error
	if known, ok := f.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err = known.UnmarshalText([]byte(text))
	} else {
		switch f.Kind() {
		case reflect.String:
			f.SetString(text)
		case reflect.Bool:
			var value bool
			value, err = strconv.ParseBool(text)
			f.SetBool(value)
		case reflect.Uint16:
			var number uint64
			number, err = strconv.ParseUint(text, 10, 16)
			f.SetUint(number)
		case reflect.Int:
			var number int
			number, err = strconv.Atoi(text)
			f.SetInt(int64(number))
		case reflect.Float64:
			var number float64
			number, err = strconv.ParseFloat(text, 64)
			f.SetFloat(number)
		}
		if err != nil {
			return fmt.Errorf("%q is no %s", text, f.noun())
		}
	}
	if err == nil && f.IsZero() {
		return fmt.Errorf("%q is no %s", text, f.noun())
	}
	return err
}

// noun is what the value must be.
func (f fieldFlag) noun() string {
	switch {
	case f.Type() == "DURATION":
		return "duration above 0, such as 200ms"
	case f.Kind() == reflect.Bool:
		return "true, or leave the flag out"
	case f.Type() == "NUMBER":
		return "number above 0"
	}
	return "value"
}

// Type is what help calls the value.
func (f fieldFlag) Type() string {
	if _, duration := f.Interface().(control.Duration); duration {
		return "DURATION"
	}
	if f.known != "" {
		return strings.ReplaceAll(f.known, ",", "|")
	}
	switch f.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Uint16, reflect.Int, reflect.Float64:
		if _, text := f.Addr().Interface().(encoding.TextUnmarshaler); !text {
			return "NUMBER"
		}
	}
	return "VALUE"
}

// String is the default, which none of these flags has.
func (f fieldFlag) String() string { return "" }

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
