package main

import (
	"encoding/json"
	"errors"
	"io"

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

// showBench prints the report of a benchmark that ended with err, as JSON on one line.
func (c *cli) showBench(cmd *cobra.Command, report benchReport, err error) error {
	if cmd.Context().Err() != nil && !errors.Is(err, stage.ErrLeftovers) {
		return &exitError{exitInterrupted, "interrupted; everything is removed"}
	}
	if err != nil {
		return err
	}
	if outputFormat(cmd) == formatJSON {
		err = json.NewEncoder(c.stdout).Encode(report)
	} else {
		err = report.WriteText(c.stdout)
	}
	if broken := report.Broken(); err == nil && broken != "" {
		return errors.New(broken)
	}
	return err
}
