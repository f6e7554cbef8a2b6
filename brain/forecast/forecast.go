// Package forecast tells what the traffic of a service will be in the next steps, and how sure that is.
//
// Several models learn from the same Data, and an Ensemble trusts each as far as its forecasts came true lately
// (forecaster.go). Intervals and the confidence are calibrated on past forecasts. Backtest runs all of it over a trace
// as it would have run then. The package knows numbers and times only: where they come from is brain/history's and
// control's affair, and what is done about a forecast that of others.
package forecast

import (
	"context"
	"encoding"
	"errors"
	"math"
)

// Quantiles are a forecast of one step: the value that traffic stays below with a probability of 10, 50 and 90 %, in
// the unit of the series.
type Quantiles struct {
	P10 float64 `json:"p10"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
}

// ErrTooShort is returned by Fit when the data is too short for the model.
var ErrTooShort = errors.New("too few values to learn from")

// Model forecasts one series. Implementations are not safe for concurrent use; equal data gives equal forecasts.
type Model interface {
	// Fit learns from all of data. A model that was fitted before may go on from there. It returns ErrTooShort, or soon
	// after ctx is done its error; then the model is what it was before.
	Fit(ctx context.Context, data *Data) error
	// Predict forecasts the steps after the first n values of data, which must be those of Fit and any that came since:
	// out[k] is of value n+k. It fails when there is nothing to say, and what it says may be worthless: see sound.
	Predict(data *Data, n int, out []Quantiles) error
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// Names of the models, as in weights, commands and reports. The baselines, which an operator has for nothing, are the
// first three; models must be better than the best of them.
const (
	Naive         = "naive"
	SeasonalNaive = "seasonal-naive"
	MovingAverage = "moving-average"
	HoltWinters   = "holt-winters"
	ARIMA         = "arima"
	Formula       = "formula"
	Ridge         = "ridge"
	Boosting      = "boosting"
	BoostingSmall = "boosting-small"
	Forest        = "forest"
	LSTM          = "lstm"
)

// Baselines are the names of the models that all others are judged by.
func Baselines() []string { return []string{Naive, SeasonalNaive, MovingAverage} }

// sound says that a forecast is one: finite, ordered, and not absurd for a series whose largest value is known.
func sound(q Quantiles, largest float64) bool {
	ordered := q.P10 <= q.P50 && q.P50 <= q.P90 // false for NaN
	return ordered && !math.IsInf(q.P10, 0) && q.P50 <= absurd*(largest+1)
}

// absurd is how many times the largest value ever seen a forecast must exceed to be a sign of divergence.
const absurd = 20

// whole returns the forecast in whole numbers.
func (q Quantiles) whole() Quantiles {
	return Quantiles{math.Round(q.P10), math.Round(q.P50), math.Round(q.P90)}
}

// proper returns the forecast without what is below zero, and with the median between the others, which rounding and
// models of one quantile each may have on the wrong side.
func (q Quantiles) proper() Quantiles {
	return Quantiles{max(min(q.P10, q.P50), 0), max(q.P50, 0), max(q.P90, q.P50, 0)}
}
