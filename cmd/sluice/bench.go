package main

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/test/stage"
)

func newBenchCommand(c *cli) *cobra.Command {
	group := newGroup("bench", "Measure Sluice on this machine, in namespaces of its own",
		newBenchControlCommand(c),
		newBenchDataplaneCommand(c),
		newBenchFailoverCommand(c),
		newBenchHTTPCommand(c),
		newBenchP2CCommand(c),
	)
	group.Long = `Measure Sluice on this machine: what is measured runs in network namespaces that are made for it and removed in the
end. It needs root. Figures of different machines compare badly; docs/benchmarks.md has some.`
	return group
}

// benchReport is what a benchmark has measured.
type benchReport interface {
	WriteText(io.Writer) error
	Broken() string // says what must not be, or ""
}

// formatMarkdown is the format of docs/benchmarks.md.
const formatMarkdown = "markdown"

// showBench prints the report of a benchmark that ended with err, as JSON on one line. The format is Markdown only where
// the command has it and the report can write it.
func (c *cli) showBench(cmd *cobra.Command, report benchReport, err error) error {
	if cmd.Context().Err() != nil && !errors.Is(err, stage.ErrLeftovers) {
		return &exitError{exitInterrupted, "interrupted; everything is removed"}
	}
	if err != nil {
		return err
	}
	switch outputFormat(cmd) {
	case formatJSON:
		err = json.NewEncoder(c.stdout).Encode(report)
	case formatMarkdown:
		err = report.(interface{ WriteMarkdown(io.Writer) error }).WriteMarkdown(c.stdout)
	default:
		err = report.WriteText(c.stdout)
	}
	if broken := report.Broken(); err == nil && broken != "" {
		return errors.New(broken)
	}
	return err
}

// allValues stands for every value of a flag.
const allValues = "all"

// choose returns what was chosen among the known values.
func choose[T ~string](flag string, chosen []string, known []T) ([]T, error) {
	if slices.Contains(chosen, allValues) {
		return known, nil
	}
	var values []T
	for _, text := range chosen {
		if !slices.Contains(known, T(text)) {
			return nil, invalidInput("--%s: %q is not known (known: %s, %s)", flag, text, strings.Join(texts(known), ", "), allValues)
		}
		values = append(values, T(text))
	}
	return values, nil
}

// texts returns values as what they are on a command line.
func texts[T ~string](values []T) []string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return names
}
