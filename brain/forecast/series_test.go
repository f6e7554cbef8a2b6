package forecast

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var monday = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

var nan = math.NaN()

// minutes returns the times of rows at these minutes after monday.
func minutes(at ...int) []time.Time {
	var times []time.Time
	for _, m := range at {
		times = append(times, monday.Add(time.Duration(m)*time.Minute))
	}
	return times
}

func everyMinute(n int) []time.Time {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return minutes(at...)
}

func TestResample(t *testing.T) {
	for name, test := range map[string]struct {
		times  []time.Time
		values []float64
		step   time.Duration
		want   []float64
	}{
		"sums":                      {everyMinute(4), []float64{1, 2, 3, 4}, 2 * time.Minute, []float64{3, 7}},
		"a quarter is missing":      {minutes(0, 1, 3, 4, 5, 6, 7), []float64{1, 2, 3, 4, 5, 6, 7}, 4 * time.Minute, []float64{8, 22}},
		"half is missing":           {minutes(0, 1, 4, 5, 6, 7), []float64{1, 2, 4, 5, 6, 7}, 4 * time.Minute, []float64{6, 22}},
		"more than half is missing": {minutes(0, 4, 5, 6, 7), []float64{1, 4, 5, 6, 7}, 4 * time.Minute, []float64{nan, 22}},
		"a value is no number":      {minutes(0, 1, 2, 3), []float64{1, nan, nan, 5}, 2 * time.Minute, []float64{2, 10}},
		"rows as long as the step":  {minutes(4, 9, 14, 24), []float64{1, 2, 3, 4}, 5 * time.Minute, []float64{1, 2, 3, nan, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Resample(test.times, test.values, test.step, MissingNone)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Values, cmpopts.EquateNaNs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResampleRefuses(t *testing.T) {
	for want, test := range map[string]struct {
		times  []time.Time
		values []float64
		step   time.Duration
	}{
		"at least two":       {everyMinute(1), []float64{1}, time.Minute},
		"row 3 is not later": {minutes(0, 1, 1), []float64{1, 2, 3}, time.Minute},
		"row 2 has":          {everyMinute(2), []float64{1, -2}, time.Minute},
		"shorter than":       {everyMinute(2), []float64{1, 2}, time.Second},
		"fewer rows":         {[]time.Time{monday, monday.Add(time.Minute), monday.Add(2 * time.Minute), monday.AddDate(40, 0, 0)}, []float64{1, 1, 1, 1}, time.Minute},
	} {
		if _, err := Resample(test.times, test.values, test.step, MissingNone); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, not an error with %q", err, want)
		}
	}
}

// TestMissing has ten zeros in traffic of one value a minute.
func TestMissing(t *testing.T) {
	outage := func(other func(i int) float64) []float64 {
		values := make([]float64, 1000)
		for i := range values {
			if values[i] = other(i); i >= 500 && i < 510 {
				values[i] = 0
			}
		}
		return values
	}
	steady := outage(func(int) float64 { return 20 })
	sparse := outage(func(i int) float64 { return flag(i%17 == 0) })
	nights := outage(func(i int) float64 { return 20 * flag(i%100 < 60) })
	single := outage(func(i int) float64 { return 20 * flag(i%25 != 0) })
	for name, test := range map[string]struct {
		missing Missing
		values  []float64
		want    int
	}{
		"an outage":                {MissingAuto, steady, 990},
		"not looked for":           {MissingNone, steady, 1000},
		"sparse traffic":           {MissingAuto, sparse, 1000},
		"nights without traffic":   {MissingAuto, nights, 1000},
		"all runs of zeros":        {MissingZeros, nights, 590},
		"zeros shorter than 5 min": {MissingAuto, single, 990},
	} {
		got := 0
		for _, known := range test.missing.known(test.values, time.Minute) {
			got += int(flag(known))
		}
		if got != test.want {
			t.Errorf("%s: %d of 1000 values are known, not %d", name, got, test.want)
		}
	}
}
