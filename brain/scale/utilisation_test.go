package scale

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
)

// TestRateLearner has instances of 200 requests per second say how much they are used, with noise; then they become twice as fast.
func TestRateLearner(t *testing.T) {
	var l RateLearner
	random := rand.New(rand.NewPCG(1, 1))
	observe := func(rate float64, count int) {
		for range count {
			load := rate * (0.2 + 0.6*random.Float64())
			l.Observe(load, load/rate*(1+0.2*random.NormFloat64()))
		}
	}
	for _, nothing := range [][2]float64{{100, 0.05}, {0, 0.5}, {math.NaN(), 0.5}, {10, math.NaN()}, {math.Inf(1), 0.5}} {
		l.Observe(nothing[0], nothing[1])
	}
	observe(200, enoughSeen-1)
	if rate, known := l.Rate(); known {
		t.Errorf("a rate of %g from %d observations", rate, enoughSeen-1)
	}
	observe(200, 1000)
	if rate, _ := l.Rate(); math.Abs(rate-200) > 5 {
		t.Errorf("%g, not 200", rate)
	}
	observe(400, 8*halfSeen)
	if rate, _ := l.Rate(); math.Abs(rate-400) > 10 {
		t.Errorf("%g, not 400", rate)
	}
	text, err := json.Marshal(l)
	var again RateLearner
	if err != nil || json.Unmarshal(text, &again) != nil || again != l {
		t.Errorf("%s (%v)", text, err)
	}
}

// TestBurstiness counts arrivals at random (1), ones that come in tens (10), and ones that are regular (about 0), the rate of which changes.
func TestBurstiness(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	poisson := func(mean float64) (n float64) {
		for at := random.ExpFloat64(); at < mean; at += random.ExpFloat64() {
			n++
		}
		return n
	}
	for name, c := range map[string]struct {
		count func(mean float64) float64
		want  float64
	}{
		"random":  {poisson, 1},
		"tens":    {func(mean float64) float64 { return 10 * poisson(mean/10) }, 10},
		"regular": {math.Round, 0},
	} {
		var b Burstiness
		if b.Squared() != 1 {
			t.Error("without data it is not 1")
		}
		for i := range 4000 {
			mean := 50 + 40*math.Sin(float64(i)/300)
			b.Observe(c.count(mean), c.count(mean))
		}
		if got := b.Squared(); math.Abs(got-c.want) > 0.1*c.want+0.01 {
			t.Errorf("%s: %.2f, not %g", name, got, c.want)
		}
	}
}
