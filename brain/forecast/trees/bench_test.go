package trees

import (
	"context"
	"testing"
)

// The sizes of 90 days of 5 minutes.
const (
	benchRows    = 26_000
	benchColumns = 50
)

var learners = []struct {
	name    string
	learner interface {
		Fit(ctx context.Context, x Matrix, y, weights []float32) (*Ensemble, error)
	}
}{
	{"boosting", Boosting{Loss: Absolute}},
	{"forest", Forest{}},
	{"extra", Forest{Extra: true}},
}

func BenchmarkFit(b *testing.B) {
	x, y := noisy(benchRows, benchColumns, 1)
	for _, l := range learners {
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := l.learner.Fit(b.Context(), x, y, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPredict(b *testing.B) {
	x, y := noisy(benchRows, benchColumns, 1)
	for _, l := range learners {
		e, err := l.learner.Fit(b.Context(), x, y, nil)
		if err != nil {
			b.Fatal(err)
		}
		row := 0
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				e.Predict(x.Row(row % benchRows))
				row++
			}
			data, _ := e.MarshalBinary()
			b.ReportMetric(float64(len(data)), "saved-bytes")
		})
		if e.HasQuantiles() {
			out := make([]float32, 3)
			b.Run(l.name+"-quantiles", func(b *testing.B) {
				for b.Loop() {
					e.Quantiles(x.Row(row%benchRows), []float64{0.1, 0.5, 0.9}, out)
					row++
				}
			})
		}
	}
}
