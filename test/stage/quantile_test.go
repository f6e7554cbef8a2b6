package stage

import (
	"testing"
	"time"
)

func ms(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

func TestQuantilesByNearestRank(t *testing.T) {
	var hundred, twenty []time.Duration
	for n := range 100 {
		hundred = append(hundred, ms(float64(100-n)))
	}
	for n := range 20 {
		twenty = append(twenty, ms(float64(n+1)))
	}
	for _, c := range []struct {
		values []time.Duration
		want   Quantiles
	}{
		{nil, Quantiles{}},
		{[]time.Duration{ms(7.25)}, Quantiles{7.3, 7.3, 7.3}},
		{[]time.Duration{ms(2), ms(1)}, Quantiles{1, 2, 2}},
		{twenty, Quantiles{10, 20, 20}},
		{hundred, Quantiles{50, 99, 100}},
	} {
		if got := QuantilesOf(c.values); got != c.want {
			t.Errorf("%d values: %+v, want %+v", len(c.values), got, c.want)
		}
	}
}
