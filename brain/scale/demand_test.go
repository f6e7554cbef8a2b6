package scale

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
)

// skewed has a wave of a day with noise whose distribution is known: exponential on top of the wave.
func skewed(random *rand.Rand, i int) (value, wave float64) {
	wave = 1000 * (1 + 0.5*math.Sin(2*math.Pi*float64(i)/288))
	return math.Round(wave * (1 + 0.1*random.ExpFloat64())), wave
}

// TestDemandQuantiles: of what comes the share that was announced stays below each quantile, and quantiles are those of the
// distribution that the series was made with.
func TestDemandQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	data := forecast.NewData(forecast.Series{Start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), Step: 5 * time.Minute})
	d := NewDemand(data, 2, 1)
	i := 0
	next := func() (value, wave float64) {
		value, wave = skewed(random, i)
		i++
		data.Append(value)
		d.Observe()
		return value, wave
	}
	for range 14 * 288 {
		next()
	}
	if _, ok := d.Ahead(); ok {
		t.Error("there is a distribution before anything was learnt")
	}
	if err := d.Fit(context.Background()); err != nil {
		t.Fatal(err)
	}
	levels := []float64{0.5, 0.8, 0.9, 0.99}
	below := make([]float64, len(levels))
	const scored = 2000
	d.Observe()
	waiting := []Distribution{}
	for range scored {
		ahead, ok := d.Ahead()
		if !ok {
			t.Fatal("there is no distribution")
		}
		waiting = append(waiting, ahead)
		value, wave := next()
		if len(waiting) < 2 {
			continue
		}
		then := waiting[len(waiting)-2]
		for k, p := range levels {
			below[k] += flag(value <= then.Quantile(p)) / (scored - 1)
		}
		if want, got := wave*(1-0.1*math.Log(0.1)), then.Quantile(0.9); math.Abs(got-want) > 0.12*want {
			t.Fatalf("step %d: 90 %% are below %.0f, in truth %.0f", i, got, want)
		}
	}
	for k, p := range levels {
		if math.Abs(below[k]-p) > 3.5*math.Sqrt(p*(1-p)/scored)+0.005 {
			t.Errorf("%.4f of the values were below the quantile %g", below[k], p)
		}
	}
	ahead, _ := d.Ahead()
	for _, p := range levels {
		if above := ahead.Above(ahead.Quantile(p)); math.Abs(above-(1-p)) > 0.01 {
			t.Errorf("above the quantile %g are %g", p, above)
		}
	}
}

// TestDemandMissing has gaps, and too little to learn from.
func TestDemandMissing(t *testing.T) {
	data := forecast.NewData(forecast.Series{Start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), Step: 5 * time.Minute})
	d := NewDemand(data, 3, 1)
	random := rand.New(rand.NewPCG(6, 1))
	for i := range 5 * 288 {
		value, _ := skewed(random, i)
		if i%700 < 150 {
			value = math.NaN()
		}
		data.Append(value)
		d.Observe()
		if i == 300 {
			if err := d.Fit(context.Background()); err != forecast.ErrTooShort {
				t.Errorf("from 150 values it learns: %v", err)
			}
		}
		if i == 4*288 {
			if err := d.Fit(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if ahead, ok := d.Ahead(); ok && !(ahead.Quantile(0.99) > 0 && ahead.Quantile(0.99) < 1e5) {
			t.Fatalf("step %d: 99 %% are below %g", i, ahead.Quantile(0.99))
		}
	}
}
