package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// chart is a picture of values over time.
type chart struct {
	title, unit string
	clock       string // how times are shown, as time.Format has it
	bands       []chartBand
	lines       []chartLine
}

// chartLine is drawn from value to value; one that is NaN leaves a gap.
type chartLine struct {
	name   string
	color  drawing.Color
	times  []time.Time
	values []float64
}

// chartBand is the area between two values at each time.
type chartBand struct {
	name      string
	color     drawing.Color
	times     []time.Time
	low, high []float64
}

// The colours of charts, which people who confuse red and green tell apart (Okabe and Ito, "Color Universal Design", 2008).
var (
	chartBlue   = drawing.Color{R: 0x00, G: 0x72, B: 0xb2, A: 0xff}
	chartOrange = drawing.Color{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff}
	chartGreen  = drawing.Color{R: 0x00, G: 0x9e, B: 0x73, A: 0xff}
	chartGrey   = drawing.Color{R: 0x99, G: 0x99, B: 0x99, A: 0xff}
	chartShade  = drawing.Color{R: 0xd5, G: 0x5e, B: 0x00, A: 0x40}
)

const chartWidth, chartHeight = 1200, 600 // pixels

// chartFormats are the file types that save knows, by the name's end.
var chartFormats = map[string]chartdraw.RendererProvider{".png": chartdraw.PNG, ".svg": chartdraw.SVG}

// checkChartFile says what is wrong with the name of a file for a chart, the value of a flag.
func checkChartFile(flag, file string) error {
	if chartFormats[chartType(file)] == nil {
		return invalidInput("--%s: %q does not end with .png or .svg", flag, file)
	}
	return nil
}

func chartType(file string) string { return strings.ToLower(filepath.Ext(file)) }

// save writes the chart to a file that checkChartFile found good.
func (c *chart) save(file string) error {
	var picture bytes.Buffer
	if err := c.render(chartFormats[chartType(file)], &picture); err != nil {
		return fmt.Errorf("drawing %s: %w", c.title, err)
	}
	if err := os.WriteFile(file, picture.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the chart: %w", err)
	}
	return nil
}

func (c *chart) render(format chartdraw.RendererProvider, out io.Writer) error {
	drawn := chartdraw.Chart{
		Title: c.title, Width: chartWidth, Height: chartHeight,
		Background: chartdraw.Style{Padding: chartdraw.Box{Top: 80, Left: 20, Right: 20, Bottom: 20}},
		XAxis:      chartdraw.XAxis{ValueFormatter: chartdraw.TimeValueFormatterWithFormat(c.clock)},
		YAxis: chartdraw.YAxis{
			Name: c.unit, Range: &chartdraw.ContinuousRange{Max: c.highest()},
			ValueFormatter: func(v any) string { return number(v.(float64)).text },
		},
	}
	for _, b := range c.bands {
		drawn.Series = append(drawn.Series, b)
	}
	for _, l := range c.lines {
		drawn.Series = append(drawn.Series, l.pieces()...)
	}
	drawn.YAxisSecondary.Style.Hidden = true
	drawn.Elements = []chartdraw.Renderable{chartdraw.LegendLeft(&drawn)}
	return drawn.Render(format, out)
}

// highest is where the axis of values ends, which begins at 0.
func (c *chart) highest() float64 {
	highest := 1.0
	for _, b := range c.bands {
		highest = max(highest, slices.Max(b.high))
	}
	for _, l := range c.lines {
		for _, v := range l.values {
			if v > highest { // false for NaN
				highest = v
			}
		}
	}
	return 1.05 * highest
}

// pieces returns a series for each run of values that are known. The first one has the name.
func (l chartLine) pieces() (pieces []chartdraw.Series) {
	piece := func(from, to int) {
		s := chartdraw.TimeSeries{XValues: l.times[from:to], YValues: l.values[from:to], Style: chartdraw.Style{StrokeColor: l.color, StrokeWidth: 2}}
		if len(pieces) == 0 {
			s.Name = l.name
		}
		pieces = append(pieces, s)
	}
	from := 0
	for i, v := range l.values {
		if !math.IsNaN(v) {
			continue
		}
		if i > from {
			piece(from, i)
		}
		from = i + 1
	}
	if from < len(l.values) {
		piece(from, len(l.values))
	}
	return pieces
}

// A chartBand is a chartdraw.Series.

// GetName returns the name in the legend.
func (b chartBand) GetName() string { return b.name }

// GetYAxis says that there is one axis of values.
func (b chartBand) GetYAxis() chartdraw.YAxisType { return chartdraw.YAxisPrimary }

// GetStyle returns how the legend shows the band.
func (b chartBand) GetStyle() chartdraw.Style {
	return chartdraw.Style{StrokeColor: b.color, StrokeWidth: 8, FillColor: b.color}
}

// Validate finds nothing wrong.
func (b chartBand) Validate() error { return nil }

// Len is the number of times.
func (b chartBand) Len() int { return len(b.times) }

// GetBoundedValues returns one time with its two values.
func (b chartBand) GetBoundedValues(i int) (x, low, high float64) {
	return chartdraw.TimeToFloat64(b.times[i]), b.low[i], b.high[i]
}

// Render draws the area.
func (b chartBand) Render(r chartdraw.Renderer, canvas chartdraw.Box, x, y chartdraw.Range, _ chartdraw.Style) {
	chartdraw.Draw.BoundedSeries(r, canvas, x, y, chartdraw.Style{FillColor: b.color}, b)
}
