package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-analyze/charts/chartdraw/drawing"
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/scale"
	"github.com/sluicelb/sluice/brain/scale/replay"
)

// scaleReplayOptions are what the command line says.
type scaleReplayOptions struct {
	trace
	replay.Options
	scale    float64
	policies []string
	picture  string
}

func newScaleReplayCommand(c *cli) *cobra.Command {
	o := scaleReplayOptions{
		trace:    trace{step: time.Minute, missing: string(forecast.MissingAuto)},
		Options:  replay.Options{Boot: 3 * time.Minute, Objective: 100 * time.Millisecond, Train: 0.3, Target: 0.7, Risk: 0.01, Price: 1, Seed: 1},
		scale:    1,
		policies: []string{allValues},
	}
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Say what scaling policies would have done on traffic of the past",
		Long: `Scale instances along a trace as each policy would have, with only what was known by then, and say what that would
have cost and how often the objective would have been missed: a mean response time, by the formulas of an M/M/c queue.

  reactive     Kubernetes' HorizontalPodAutoscaler: ceil(instances x utilisation / target), 10 % tolerance, every 15 s,
               down after 300 s
  predictive   Sluice: what the demand stays below, but for the accepted risk, when capacity ordered now is ready
  scheduled    what the same time last week needed
  oracle       knows the future

The trace is CSV with a header, first the time (RFC 3339 or Unix), then requests since about the row before; it may be
compressed with gzip. Steps of which the requests are not known are not scored, and capacity stays as it is in them.
Instances are paid for from their order on. No daemon is needed.`,
		Example: `  sluice scale replay --input requests.csv.gz --service-rate 200 --boot 180s --slo 100ms
  sluice scale replay --input requests.csv.gz --service-rate 200 --curve -o json`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := c.scaleReplay(cmd.Context(), &o)
			if err != nil {
				return err
			}
			if o.picture != "" {
				if err := scaleChart(report).save(o.picture); err != nil {
					return err
				}
			}
			return c.show(cmd, report, func(p *page) { p.scaleReplay(report) })
		},
	}
	flags := cmd.Flags()
	o.trace.flags(cmd)
	flags.Float64Var(&o.scale, "scale", o.scale, "`NUMBER` that the trace's requests are multiplied by")
	flags.Float64Var(&o.Rate, "service-rate", 0, "requests per second, a `NUMBER`, that one instance serves")
	flags.DurationVar(&o.Boot, "boot", o.Boot, "`DURATION` from the order of an instance until it serves")
	flags.DurationVar(&o.Objective, "slo", o.Objective, "mean response time, a `DURATION`, that is to be kept")
	shareFlag(cmd, &o.Train, "train", "`PERCENT` of the trace that only warms policies up (default 30%)", true)
	shareFlag(cmd, &o.Risk, "risk", "`PERCENT` of the time in which predictive may miss the objective (default 1%)", false)
	shareFlag(cmd, &o.Target, "target", "utilisation, in `PERCENT`, that reactive aims at (default 70%)", false)
	flags.Float64Var(&o.Price, "price", o.Price, "of an instance for an hour, a `NUMBER`")
	flags.StringSliceVar(&o.policies, "policy", o.policies, "`NAMES` of policies with commas; all")
	completeFlag(cmd, "policy", append(replay.Policies, allValues)...)
	flags.BoolVar(&o.Curve, "curve", false, "sweep reactive's target and predictive's risk")
	flags.StringVar(&o.picture, "png", "", "write a chart of demand and capacity to a `FILE` that ends with .png or .svg")
	flags.Uint64Var(&o.Seed, "seed", o.Seed, "`NUMBER` that chance begins with: the same one gives the same figures")
	return outputFlag(cmd)
}

// scaleReplay reads the trace and replays it.
func (c *cli) scaleReplay(ctx context.Context, o *scaleReplayOptions) (*replay.Report, error) {
	switch {
	case !(o.Rate > 0) || math.IsInf(o.Rate, 0):
		return nil, usageError("--service-rate is missing: how many requests per second does one instance serve?")
	case !(o.scale > 0) || math.IsInf(o.scale, 0):
		return nil, invalidInput("--scale: %g is not above 0", o.scale)
	case !(o.Price >= 0) || math.IsInf(o.Price, 0):
		return nil, invalidInput("--price: %g is not 0 or more", o.Price)
	}
	if o.picture != "" {
		if err := checkChartFile("png", o.picture); err != nil {
			return nil, err
		}
	}
	var err error
	if o.Policies, err = choose("policy", o.policies, replay.Policies); err != nil {
		return nil, err
	}
	if o.step < scale.Period || o.step%scale.Period != 0 {
		return nil, invalidInput("--step: %v is no multiple of %v, in which decisions are made", o.step, scale.Period)
	}
	series, err := c.readSeries(&o.trace)
	if err != nil {
		return nil, err
	}
	if o.Calendar, err = o.calendarOf(); err != nil {
		return nil, err
	}
	for i := range series.Values {
		series.Values[i] *= o.scale
	}
	if c.progress {
		o.Progress = progressBar(c.stderr)
	}
	report, err := replay.Run(ctx, series, o.Options)
	if err != nil && ctx.Err() == nil {
		return nil, invalidInput("%s: %v", o.input, err)
	}
	return report, err
}

// scaleReplay prints what policies did, and their curves.
func (p *page) scaleReplay(r *replay.Report) {
	decimals := func(v float64, digits int) cell {
		return cell{text: strconv.FormatFloat(v, 'f', digits, 64), right: true}
	}
	t := newTable("POLICY", "INSTANCE HOURS", "COST", "MINUTES IN VIOLATION", "SLOW REQUESTS", "OVERPROVISION", "SCALE EVENTS", "RECOVERY")
	for _, name := range replay.Policies {
		s, done := r.Policies[name]
		if !done {
			continue
		}
		t.add(name, decimals(s.InstanceHours, 0), decimals(s.Cost, 2), decimals(s.ViolationMinutes, 0), percentOf(s.SlowShare, 2), percentOf(s.Overprovision, 0),
			s.ScaleEvents, cell{text: fmt.Sprintf("%.0fs", s.RecoveryS), right: true})
	}
	p.table(t)
	if r.Curves == nil {
		return
	}
	p.line("")
	t = newTable("POLICY", "TARGET OR RISK", "INSTANCE HOURS", "MINUTES IN VIOLATION")
	for _, name := range []string{replay.Reactive, replay.Predictive} {
		for _, point := range r.Curves[name] {
			t.add(name, percentOf(point.Knob, 2), decimals(point.InstanceHours, 0), decimals(point.ViolationMinutes, 0))
		}
	}
	p.table(t)
	if saved, compared := replay.Saved(r.Curves[replay.Reactive], r.Curves[replay.Predictive]); compared > 0 {
		p.line("")
		how := "fewer"
		if saved < 0 {
			how = "more"
		}
		p.line("At as many minutes in violation predictive has %.1f %% %s instance hours than reactive, on average of %d of its %d targets.",
			100*math.Abs(saved), how, compared, len(r.Curves[replay.Reactive]))
	}
}

// chartPoints is how many points a line of a chart has at most; a point is the highest of those that it stands for.
const chartPoints = 1200

func scaleChart(r *replay.Report) *chart {
	c := &chart{title: "demand and capacity", unit: "instances", clock: "01-02 15:04"}
	add := func(name string, color drawing.Color, value func(*replay.Step) float64) {
		line := chartLine{name: name, color: color}
		every := (len(r.Track) + chartPoints - 1) / chartPoints
		for i := 0; i < len(r.Track); i += every {
			highest := math.NaN()
			for k := i; k < min(i+every, len(r.Track)); k++ {
				if v := value(&r.Track[k]); !(v <= highest) && !math.IsNaN(v) {
					highest = v
				}
			}
			line.times, line.values = append(line.times, r.Track[i].Time), append(line.values, highest)
		}
		c.lines = append(c.lines, line)
	}
	colors := map[string]drawing.Color{replay.Reactive: chartGrey, replay.Predictive: chartOrange, replay.Scheduled: chartGreen}
	for _, name := range replay.Policies {
		if _, done := r.Policies[name]; done && name != replay.Oracle {
			add(name, colors[name], func(s *replay.Step) float64 { return s.Had[name] })
		}
	}
	add("needed", chartBlue, func(s *replay.Step) float64 { return s.Need })
	return c
}
