package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
)

// trace is traffic of the past in a file, as a command line names it.
type trace struct {
	input, column  string
	step           time.Duration
	missing        string
	zone, calendar string
}

// flags gives a command the flags that say which trace to read and how.
func (o *trace) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.input, "input", "", "trace, a `FILE` in CSV; \"-\" is standard input")
	_ = cmd.MarkFlagFilename("input", "csv", "gz") // fails only for an unknown flag
	flags.StringVar(&o.column, "column", "", "`NAME` of the column, by default the first after the time")
	flags.DurationVar(&o.step, "step", o.step, "`DURATION` of a step, of which rows are summed")
	flags.StringVar(&o.missing, "missing", o.missing, "`auto|zeros|none`: which runs of zeros of 5 minutes are missing data")
	completeFlag(cmd, "missing", texts(forecast.AllMissing())...)
	flags.StringVar(&o.zone, "zone", "", "time `ZONE` of the clocks that people live by, such as Europe/Berlin (default UTC)")
	completeFlag(cmd, "zone")
	flags.StringVar(&o.calendar, "calendar", "", "`FILE` of holidays: iCalendar, or lines such as 2026-12-25 Christmas Day")
}

func (o *trace) calendarOf() (forecast.Calendar, error) {
	calendar, err := forecast.NewCalendar(o.zone, o.calendar)
	if err != nil {
		return calendar, invalidInput("%v", err)
	}
	return calendar, nil
}

// shareFlag gives a command a flag with a share such as 70% or 0.7, below 1, and above 0 unless zero is allowed.
func shareFlag(cmd *cobra.Command, target *float64, name, usage string, zero bool) {
	cmd.Flags().Func(name, usage, func(text string) error {
		number, hundredths := strings.CutSuffix(text, "%")
		share, err := strconv.ParseFloat(number, 64)
		if hundredths {
			share /= 100
		}
		if err != nil || !(share > 0 && share < 1 || zero && share == 0) {
			return fmt.Errorf("%q is no share between 0%% and 100%%, such as 70%%", text)
		}
		*target = share
		return nil
	})
	completeFlag(cmd, name)
}

// readSeries reads the trace and sums its rows.
func (c *cli) readSeries(o *trace) (*forecast.Series, error) {
	switch {
	case o.input == "":
		return nil, usageError("--input is missing: name the trace, a CSV file")
	case o.step < time.Second:
		return nil, invalidInput("--step: %v is less than a second", o.step)
	case !slices.Contains(texts(forecast.AllMissing()), o.missing):
		return nil, invalidInput("--missing: %q is not known (known: %s)", o.missing, strings.Join(texts(forecast.AllMissing()), ", "))
	}
	input := c.stdin
	if o.input != "-" {
		file, err := os.Open(o.input)
		if err != nil {
			return nil, invalidInput("%v", err)
		}
		defer file.Close()
		input = file
	}
	times, values, err := history.ReadCSV(input, o.column)
	if err != nil {
		return nil, invalidInput("%s: %v", o.input, err)
	}
	series, err := forecast.Resample(times, values, o.step, forecast.Missing(o.missing))
	if err != nil {
		return nil, invalidInput("%s: %v", o.input, err)
	}
	return series, nil
}

// progressBar returns a function that draws how far something is on a terminal's line, and takes it away in the end.
func progressBar(w io.Writer) func(share float64) {
	const width = 50
	drawn := -1
	return func(share float64) {
		percent := int(share * 100)
		if percent == drawn {
			return
		}
		drawn = percent
		full := percent * width / 100
		fmt.Fprintf(w, "\r%s%s %3d %%", strings.Repeat("█", full), strings.Repeat("░", width-full), percent)
		if percent == 100 {
			fmt.Fprint(w, "\r\x1b[K") // ECMA-48, section 8.3.41: erase in line
		}
	}
}
