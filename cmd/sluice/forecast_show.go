package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/guptarohit/asciigraph"
	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/forecast/live"
)

func newForecastShowCommand(c *cli) *cobra.Command {
	var plot bool
	var picture string
	cmd := &cobra.Command{
		Use:   "show SERVICE",
		Short: "Show what traffic a service will have in the next 15 minutes, and how sure that is",
		Long: `Show how many new flows a service will have in each of the next 15 minutes: what they stay below with a
probability of 10, 50 and 90 %, and how probable it is that they are within 10 % of the middle one, as past forecasts
were. Then the models, how much each is trusted and why some are not, and the latest minutes that were not as expected.`,
		Example: `  sluice forecast show web --plot
  sluice forecast show web --png web.png
  sluice forecast show web -o json`,
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("png") {
				if err := checkChartFile("png", picture); err != nil {
					return err
				}
			}
			report, err := c.client().Forecast(cmd.Context(), args[0])
			if err != nil {
				return noService(err)
			}
			if picture != "" {
				if err := forecastChart(&report).save(picture); err != nil {
					return err
				}
			}
			return c.show(cmd, report, func(p *page) { p.forecast(&report, plot) })
		},
	}
	cmd.Flags().BoolVar(&plot, "plot", false, "draw a chart")
	cmd.Flags().StringVar(&picture, "png", "", "write a chart to a `FILE` that ends with .png or .svg")
	return outputFlag(cmd)
}

// shownSteps are the minutes of the forecast that are listed, counted from 1; all are in JSON.
var shownSteps = []int{1, 2, 3, 5, 10, 15}

func (p *page) forecast(r *live.Report, plot bool) {
	what := "all models, fitted " + r.Fitted.Local().Format("2006-01-02 15:04")
	if !r.Learns {
		what = "simple models, since " + r.Reason
	} else if r.Reason != "" {
		what += "; learning failed since: " + r.Reason
	}
	p.line("Service %s, new flows a minute, from %s on (%s)", r.Service, r.End.Local().Format("15:04"), what)
	p.line("")
	if plot {
		p.line("%s", plotForecast(r))
		p.line("")
	}
	t := newTable("MINUTE", "10 %", "MEDIAN", "90 %", "WITHIN 10 %")
	for _, i := range shownSteps {
		s := r.Forecast[i-1]
		t.add(s.Time.Local().Format("15:04"), number(s.P10), number(s.P50), number(s.P90), percentOf(s.Confidence, 0))
	}
	p.table(t)
	p.line("")
	p.models(r.Models)
	if len(r.Anomalies) == 0 {
		return
	}
	p.line("")
	t = newTable("ANOMALY", "MINUTE", "FLOWS", "EXPECTED", "DEVIATIONS")
	for _, a := range r.Anomalies {
		t.add(string(a.Kind), a.Time.Local().Format("2006-01-02 15:04"), number(a.Value), number(a.Expected), fmt.Sprintf("%.1f", a.Score))
	}
	p.table(t)
}

func (p *page) models(models []forecast.ModelStatus) {
	t := newTable("MODEL", "WEIGHT", "SKILL", "NOT USED SINCE")
	for _, m := range models {
		t.add(m.Name, percentOf(m.Weight, 0), cell{text: fmt.Sprintf("%.3f", m.Skill), right: true}, m.Why)
	}
	p.table(t)
}

// plotForecast draws the last two hours and the forecast with characters.
func plotForecast(r *live.Report) string {
	var measured, low, middle, high []float64
	for _, m := range r.Recent {
		measured = append(measured, flows(m))
	}
	unknown := slices.Repeat([]float64{math.NaN()}, len(measured))
	low, middle, high = slices.Clone(unknown), slices.Clone(unknown), slices.Clone(unknown)
	for _, s := range r.Forecast {
		measured = append(measured, math.NaN())
		low, middle, high = append(low, s.P10), append(middle, s.P50), append(high, s.P90)
	}
	return asciigraph.PlotMany([][]float64{low, high, middle, measured}, asciigraph.Height(12), asciigraph.LowerBound(0),
		asciigraph.Caption(fmt.Sprintf("the last %d minutes, and the next %d: 10 %%, median, 90 %%", len(r.Recent), len(r.Forecast))))
}

func flows(m live.Measured) float64 {
	if m.Flows == nil {
		return math.NaN()
	}
	return *m.Flows
}

func forecastChart(r *live.Report) *chart {
	past := chartLine{name: "measured", color: chartBlue}
	for _, m := range r.Recent {
		past.times, past.values = append(past.times, m.Time), append(past.values, flows(m))
	}
	next := chartLine{name: "median", color: chartOrange}
	band := chartBand{name: "10 to 90 %", color: chartShade}
	for _, s := range r.Forecast {
		next.times, next.values = append(next.times, s.Time), append(next.values, s.P50)
		band.low, band.high = append(band.low, s.P10), append(band.high, s.P90)
	}
	band.times = next.times
	return &chart{
		title: fmt.Sprintf("%s, %s", r.Service, r.End.Local().Format(time.DateTime)), unit: "new flows a minute", clock: "15:04",
		lines: []chartLine{past, next}, bands: []chartBand{band},
	}
}
