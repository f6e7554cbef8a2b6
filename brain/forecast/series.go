package forecast

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Series is traffic in equal steps: Values[i] is what came from Start + i Step on for one Step, NaN where that is not known.
type Series struct {
	Start  time.Time
	Step   time.Duration
	Values []float64
}

// Time returns the beginning of a step, which may lie beyond the end.
func (s *Series) Time(i int) time.Time { return s.Start.Add(time.Duration(i) * s.Step) }

// Steps returns how many steps a duration is, at least one.
func (s *Series) Steps(d time.Duration) int { return max(int((d+s.Step/2)/s.Step), 1) }

// maxSteps bounds the memory that a mistaken time can cost; it is 19 years of minutes.
const maxSteps = 10_000_000

// Resample sums rows into steps. A row counts what came since about the last one; the rows' own step is the median
// distance between them, and each covers as much. A step with rows for less than half of it is missing, and one with
// rows for a part is scaled up. Times must rise. It fails when there are fewer than two rows, or when step is shorter than theirs.
func Resample(times []time.Time, values []float64, step time.Duration, missing Missing) (*Series, error) {
	if len(times) < 2 {
		return nil, fmt.Errorf("%d rows are too few for a series: give at least two", len(times))
	}
	for i := 1; i < len(times); i++ {
		if !times[i].After(times[i-1]) {
			return nil, fmt.Errorf("row %d is not later than the row before it (%s): sort the rows by time, each time once",
				i+1, times[i].UTC().Format(time.RFC3339))
		}
	}
	for i, v := range values {
		if v < 0 || math.IsInf(v, 0) {
			return nil, fmt.Errorf("row %d has the value %g: traffic is a finite number that is not negative", i+1, v)
		}
	}
	rowStep := medianStep(times)
	if step < rowStep {
		return nil, fmt.Errorf("a step of %s is shorter than the rows' own of %s: choose at least that", step, rowStep)
	}
	known := missing.known(values, rowStep)
	start := times[0].Truncate(step)
	steps := int(times[len(times)-1].Sub(start)/step) + 1
	if steps > maxSteps {
		return nil, fmt.Errorf("%s to %s in steps of %s are %d steps, more than %d: choose longer steps or fewer rows", start.UTC().Format(time.RFC3339),
			times[len(times)-1].UTC().Format(time.RFC3339), step, steps, maxSteps)
	}
	sums, rows := make([]float64, steps), make([]float64, steps)
	for i, t := range times {
		if known[i] {
			at := int(t.Sub(start) / step)
			sums[at] += values[i]
			rows[at]++
		}
	}
	full := float64(step) / float64(rowStep)
	for i := range sums {
		switch {
		case rows[i] < full/2:
			sums[i] = math.NaN()
		case math.Abs(rows[i]-full) >= 0.5:
			sums[i] *= full / rows[i]
		}
	}
	return &Series{Start: start, Step: step, Values: sums}, nil
}

func medianStep(times []time.Time) time.Duration {
	steps := make([]time.Duration, len(times)-1)
	for i := range steps {
		steps[i] = times[i+1].Sub(times[i])
	}
	slices.Sort(steps)
	return steps[len(steps)/2]
}
