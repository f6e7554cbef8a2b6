package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/history"
)

// backtestOptions are what the command line says.
type backtestOptions struct {
	input, column        string
	step, horizon, refit time.Duration
	train                float64
	models               []string
	missing              string
	zone, calendar       string
	seed                 uint64
}

func newForecastBacktestCommand(c *cli) *cobra.Command {
	o := backtestOptions{
		step: 5 * time.Minute, horizon: 15 * time.Minute, refit: 24 * time.Hour, train: 0.7,
		models: []string{allValues}, missing: string(forecast.MissingAuto), seed: 1,
	}
	cmd := &cobra.Command{
		Use:   "backtest",
		Short: "Say how well traffic of the past would have been forecast",
		Long: `Forecast the end of a trace step by step, each time only with what was known by then, and compare with what
came. The trace is CSV with a header, first the time (RFC 3339 or Unix), then numbers that count what came since about the
row before; it may be compressed with gzip. No daemon is needed.

Scores are for forecasts of the whole horizon: mean absolute error (MAE), its symmetric percentage (sMAPE), the error beside
that of the same time yesterday (MASE), and skill, by what part the error is below that of the best baseline. Baselines are
naive (the last value), seasonal-naive (the same time yesterday) and moving-average (the mean of the last 6 steps). The
ensemble is what Sluice uses. "confident" is how many forecasts had a confidence of 0.8 or more, and how many of those
were within 10 % of what came.`,
		Example: `  sluice forecast backtest --input requests.csv.gz --step 5m --horizon 15m
  sluice forecast backtest --input requests.csv --column requests --models ridge,boosting -o json`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := c.backtest(cmd.Context(), &o)
			if err != nil {
				return err
			}
			return c.show(cmd, report, func(p *page) { p.backtest(report) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.input, "input", "", "trace, a `FILE` in CSV; \"-\" is standard input")
	_ = cmd.MarkFlagFilename("input", "csv", "gz") // fails only for an unknown flag
	flags.StringVar(&o.column, "column", "", "`NAME` of the column, by default the first after the time")
	flags.DurationVar(&o.step, "step", o.step, "`DURATION` of a step, of which rows are summed")
	flags.DurationVar(&o.horizon, "horizon", o.horizon, "`DURATION` ahead that is forecast, a multiple of step")
	flags.StringSliceVar(&o.models, "models", o.models, "`NAMES` of models with commas, besides the baselines; all")
	completeFlag(cmd, "models", append(forecast.AllModels(), allValues)...)
	flags.Func("train", "`PERCENT` of the trace before the first forecast that is scored (default 70%)", func(text string) (err error) {
		o.train, err = percent(text)
		return err
	})
	flags.DurationVar(&o.refit, "refit", o.refit, "`DURATION` after which models learn anew")
	flags.StringVar(&o.missing, "missing", o.missing, "`auto|zeros|none`: which runs of zeros of 5 minutes are missing data")
	completeFlag(cmd, "missing", texts(forecast.AllMissing())...)
	flags.StringVar(&o.zone, "zone", "", "time `ZONE` of the clocks that people live by, such as Europe/Berlin (default UTC)")
	completeFlag(cmd, "zone")
	flags.StringVar(&o.calendar, "calendar", "", "`FILE` of holidays: iCalendar, or lines such as 2026-12-25 Christmas Day")
	flags.Uint64Var(&o.seed, "seed", o.seed, "`NUMBER` that chance begins with: the same one gives the same scores")
	return outputFlag(cmd, formatTable, formatJSON, formatYAML)
}

// percent reads a share such as 70% or 0.7.
func percent(text string) (float64, error) {
	number, hundredths := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if hundredths {
		share /= 100
	}
	if err != nil || !(share > 0 && share < 1) {
		return 0, fmt.Errorf("%q is no share between 0%% and 100%%, such as 70%%", text)
	}
	return share, nil
}

// backtest reads the trace and runs the backtest.
func (c *cli) backtest(ctx context.Context, o *backtestOptions) (*forecast.Report, error) {
	b := forecast.Backtest{Train: o.train, Refit: o.refit}
	b.Seed = o.seed
	switch {
	case o.input == "":
		return nil, usageError("--input is missing: name the trace, a CSV file")
	case o.step < time.Second || o.refit < o.step:
		return nil, invalidInput("--step must be a second or more, and --refit at least a step")
	case o.horizon < o.step || o.horizon%o.step != 0 || o.horizon > 1000*o.step:
		return nil, invalidInput("--horizon must be 1 to 1000 steps of %s", o.step)
	case !slices.Contains(texts(forecast.AllMissing()), o.missing):
		return nil, invalidInput("--missing: %q is not known (known: %s)", o.missing, strings.Join(texts(forecast.AllMissing()), ", "))
	}
	b.Horizon = int(o.horizon / o.step)
	var err error
	if b.Calendar, err = forecast.NewCalendar(o.zone, o.calendar); err != nil {
		return nil, invalidInput("%v", err)
	}
	if b.Models, err = choose("models", o.models, forecast.AllModels()); err != nil {
		return nil, err
	}
	series, err := c.readSeries(o)
	if err != nil {
		return nil, err
	}
	if c.progress {
		b.Progress = progressBar(c.stderr)
	}
	return b.Run(ctx, *series)
}

// readSeries reads the trace and sums its rows.
func (c *cli) readSeries(o *backtestOptions) (*forecast.Series, error) {
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

// backtest prints the scores, the best model first.
func (p *page) backtest(r *forecast.Report) {
	p.line("%d values, %d of them scored; best baseline: %s", r.Points, r.TestPoints, r.BestBaseline)
	p.line("")
	names := slices.SortedFunc(maps.Keys(r.Models), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Models[b].Skill, r.Models[a].Skill), cmp.Compare(a, b))
	})
	t := newTable("model", "MAE", "sMAPE", "MASE", "skill", "within 10 %", "20 %", "pinball", "coverage", "confident", "right", "fit s", "predict ms")
	for _, name := range names {
		s := r.Models[name]
		row := []any{name}
		for _, v := range []float64{s.MAE, s.SMAPE, s.MASE, s.Skill, s.Within10, s.Within20, s.Pinball, s.Coverage80, s.ConfidentShare, s.ConfidentWithin10, s.FitSeconds, s.PredictMS} {
			row = append(row, cell{text: strconv.FormatFloat(v, 'f', 3, 64), right: true})
		}
		t.add(row...)
	}
	p.table(t)
}
