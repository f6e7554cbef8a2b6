package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// The formats of output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// format is a flag's value that is one of a few formats.
type format struct {
	name  string
	known []string
}

// String returns the format's name.
func (f *format) String() string { return f.name }

// Type names the value in help.
func (f *format) Type() string { return strings.Join(f.known, "|") }

// Set accepts the known names.
func (f *format) Set(name string) error {
	if !slices.Contains(f.known, name) {
		return fmt.Errorf("%q is no format (known: %s)", name, strings.Join(f.known, ", "))
	}
	f.name = name
	return nil
}

// outputFlag gives a command the flag -o, by default with the formats table, json and yaml. The first one
// is the default.
func outputFlag(cmd *cobra.Command, formats ...string) *cobra.Command {
	if len(formats) == 0 {
		formats = []string{formatTable, formatJSON, formatYAML}
	}
	cmd.Flags().VarP(&format{name: formats[0], known: formats}, "output", "o", "format of the output")
	completeFlag(cmd, "output", formats...)
	return cmd
}

// outputFormat returns what the flag of outputFlag says.
func outputFormat(cmd *cobra.Command) string { return cmd.Flag("output").Value.String() }

// show prints a value in the format that the user chose; text prints it for people. JSON and YAML have
// the keys of the API.
func (c *cli) show(cmd *cobra.Command, value any, text func(*page)) error {
	p := &page{colored: c.colored()}
	switch outputFormat(cmd) {
	case formatJSON:
		if err := p.json(value); err != nil {
			return err
		}
	case formatYAML:
		if err := p.json(value); err != nil {
			return err
		}
		converted, err := yaml.JSONToYAML(p.Bytes())
		if err != nil {
			return err
		}
		p.Reset()
		p.Write(converted)
	default:
		text(p)
	}
	_, err := p.WriteTo(c.stdout)
	return err
}

// page collects what is printed at once.
type page struct {
	bytes.Buffer
	colored bool
}

func (p *page) json(value any) error {
	encoder := json.NewEncoder(p)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// line adds one line.
func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// style is an SGR code of ECMA-48, section 8.3.117.
type style string

const (
	plain  style = ""
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// paint returns the text in a style where the page has colours.
func (p *page) paint(s style, text string) string {
	if !p.colored || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}
