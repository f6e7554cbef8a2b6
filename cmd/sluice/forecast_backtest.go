package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/forecast"
)

// backtestOptions are what the command line says.
type backtestOptions struct {
	trace
	horizon, refit time.Duration
	train          float64
	models         []string
	seed           uint64
}

func newForecastBacktestCommand(c *cli) *cobra.Command {
	o := backtestOptions{
		trace: trace{step: 5 * time.Minute, missing: string(forecast.MissingAuto)}, horizon: 15 * time.Minute, refit: 24 * time.Hour, train: 0.7,
		models: []string{allValues}, seed: 1,
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
	o.trace.flags(cmd)
	flags.DurationVar(&o.horizon, "horizon", o.horizon, "`DURATION` ahead that is forecast, a multiple of step")
	flags.StringSliceVar(&o.models, "models", o.models, "`NAMES` of models with commas, besides the baselines; all")
	completeFlag(cmd, "models", append(forecast.AllModels(), allValues)...)
	shareFlag(cmd, &o.train, "train", "`PERCENT` of the trace before the first forecast that is scored (default 70%)", false)
	flags.DurationVar(&o.refit, "refit", o.refit, "`DURATION` after which models learn anew")
	flags.Uint64Var(&o.seed, "seed", o.seed, "`NUMBER` that chance begins with: the same one gives the same scores")
	return outputFlag(cmd, formatTable, formatJSON, formatYAML)
}

// backtest reads the trace and runs the backtest.
func (c *cli) backtest(ctx context.Context, o *backtestOptions) (*forecast.Report, error) {
	b := forecast.Backtest{Train: o.train, Refit: o.refit}
	b.Seed = o.seed
	switch {
	case o.refit < o.step:
		return nil, invalidInput("--refit: %v is shorter than a step", o.refit)
	case o.horizon < o.step || o.horizon%o.step != 0 || o.horizon > 1000*o.step:
		return nil, invalidInput("--horizon must be 1 to 1000 steps of %s", o.step)
	}
	b.Horizon = int(o.horizon / o.step)
	var err error
	if b.Calendar, err = o.calendarOf(); err != nil {
		return nil, err
	}
	if b.Models, err = choose("models", o.models, forecast.AllModels()); err != nil {
		return nil, err
	}
	series, err := c.readSeries(&o.trace)
	if err != nil {
		return nil, err
	}
	if c.progress {
		b.Progress = progressBar(c.stderr)
	}
	return b.Run(ctx, *series)
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
