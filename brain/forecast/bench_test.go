package forecast

import (
	"runtime"
	"testing"
)

// quarter returns a forecaster of all models with 90 days of 5-minute steps.
func quarter(b *testing.B) *Forecaster {
	f, err := NewForecaster(NewData(noisyDays(90, 0.1, 1)), Options{Horizon: 15, Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkFit fits all models on 90 days of 5-minute steps, for 15 steps ahead.
func BenchmarkFit(b *testing.B) {
	for b.Loop() {
		f := quarter(b)
		fit(b, f)
		for _, m := range f.members {
			b.ReportMetric(m.FitTime.Seconds(), m.Name+"-s")
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB")
	}
}

// BenchmarkForecast has the ensemble take in a value and forecast 15 steps.
func BenchmarkForecast(b *testing.B) {
	f := quarter(b)
	fit(b, f)
	value := f.data.Values[0]
	for b.Loop() {
		f.Append(value)
		f.Forecast()
	}
}
