package forecast

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/sluicelb/sluice/brain/forecast/trees"
)

// AnomalyKind says in what way traffic was not as expected.
type AnomalyKind string

// The kinds of anomalies.
const (
	Surge      AnomalyKind = "surge"
	Drop       AnomalyKind = "drop"
	LevelShift AnomalyKind = "level-shift" // two values in a row that are unexpected and much the same
)

// Anomaly is a value that was not as expected one step before.
type Anomaly struct {
	Kind     AnomalyKind `json:"kind"`
	Time     time.Time   `json:"time"`     // of the step's beginning
	Value    float64     `json:"value"`    // what came
	Expected float64     `json:"expected"` // the median of what was expected
	Score    float64     `json:"score"`    // deviations from it, as a robust estimate of the standard deviation
}

// Detector finds anomalies, by a gradient-boosted model of what the next value is and how far values lie from that. Until
// that is fitted, and shortly after an anomaly, the values of the last hour tell both. The zero value is
// ready for use.
type Detector struct {
	Seed uint64

	middle, width *trees.Ensemble
	before        surprise // of the value before
	shifted       int      // the step from which on traffic has its present level, as far as is known
}

// surprise is how a value differed from what was expected, as logarithms; a deviation of 0 is none.
type surprise struct{ by, deviation, level float64 }

const (
	// robust makes a standard deviation of a median absolute deviation, for normal values.
	robust = 1.4826
	// single is the score that makes a value an anomaly by itself, and double two in a row.
	single, double = 6, 4
	// smallest is the least deviation, of traffic that hardly varies: 2 %.
	smallest = 0.02
	// coarse is the same without a model, which does not know how traffic changes within an hour.
	coarse = 0.08
	// window is how many values at least, an hour's otherwise, tell what is usual without a model, and fewest how many must be known.
	window, fewest = 12, 8
)

// Fit learns what is usual from the data.
func (d *Detector) Fit(ctx context.Context, data *Data) error {
	s := samplesOf(data, 1)
	if s.count() < minSamples {
		return ErrTooShort
	}
	grower := trees.Boosting{Rounds: 100, Leaves: 8, MinLeaf: 40, Rate: 0.1, Loss: trees.Absolute, Seed: d.Seed}
	middle, width, err := grower.FitSpread(ctx, s.matrix(), s.y, grower)
	if err != nil {
		return err
	}
	d.middle, d.width = middle, width
	return nil
}

// Adopt has the detector use what another one has learnt.
func (d *Detector) Adopt(o *Detector) { d.middle, d.width = o.middle, o.width }

// Dropped tells the detector that data has lost so many of its first values.
func (d *Detector) Dropped(steps int) { d.shifted -= steps }

// MarshalBinary saves what Fit has learnt.
func (d *Detector) MarshalBinary() ([]byte, error) {
	if d.middle == nil {
		return nil, nil
	}
	return save(d.middle, d.width)
}

// UnmarshalBinary loads what MarshalBinary saved. The detector is unchanged when it returns an error.
func (d *Detector) UnmarshalBinary(saved []byte) error {
	var middle, width *trees.Ensemble
	if len(saved) > 0 {
		if err := load(saved, &middle, &width); err != nil {
			return err
		}
	}
	d.middle, d.width = middle, width
	return nil
}

// Look says whether the last value of data is an anomaly, and excludes it from what is learnt when it is. It is to be
// called after each Append.
func (d *Detector) Look(data *Data) (Anomaly, bool) {
	n := len(data.Values)
	if n < 2 || math.IsNaN(data.Values[n-1]) {
		d.before = surprise{}
		return Anomaly{}, false
	}
	expected, deviation := d.expect(data, n-1)
	if deviation == 0 {
		return Anomaly{}, false
	}
	level := toLog(data.Values[n-1])
	now, before := surprise{level - expected, deviation, level}, d.before
	d.before = now
	a := Anomaly{Time: data.Time(n - 1), Value: data.Values[n-1], Expected: max(fromLog(expected), 0), Score: now.by / deviation}
	switch twice := before.deviation > 0 && before.by*now.by > 0 && now.beyond(double) && before.beyond(double); {
	case twice && math.Abs(now.level-before.level) < double*deviation:
		a.Kind = LevelShift
		d.shifted = n - 2
	case !twice && !now.beyond(single):
		return Anomaly{}, false
	case now.by > 0:
		a.Kind = Surge
	default:
		a.Kind = Drop
	}
	data.Exclude(n - 1)
	return a, true
}

func (s surprise) beyond(score float64) bool { return math.Abs(s.by) > score*s.deviation }

// expect returns the median and the deviation of the logarithm of value n+1, from the first n; a deviation of 0 is not known.
func (d *Detector) expect(data *Data, n int) (median, deviation float64) {
	misled := d.middle == nil || data.latestKnown(n) < n-baseSteps
	for i := max(n-baseSteps, 0); i < n; i++ {
		misled = misled || data.excluded[i] // the model's features have the anomaly in them
	}
	if misled {
		return usual(data, max(n-max(data.Steps(time.Hour), window), d.shifted), n)
	}
	var row [FeatureCount]float32
	level := data.Row(n, 1, row[:])
	noise := 1 / math.Sqrt(math.Exp(level)) // of a Poisson process' logarithm, the least there can be
	return level + float64(d.middle.Predict(row[:])), max(robust*float64(d.width.Predict(row[:])), smallest, noise/2)
}

// usual is expect by the values from one step to before another alone: their median and median absolute deviation (Iglewicz and Hoaglin, "How to
// Detect and Handle Outliers", 1993).
func usual(data *Data, from, n int) (middle, deviation float64) {
	var levels []float64
	for i := max(from, 0); i < n; i++ {
		if v := data.lesson(i); !math.IsNaN(v) {
			levels = append(levels, toLog(v))
		}
	}
	if len(levels) < fewest {
		return 0, 0
	}
	middle = median(levels)
	distances := slices.Clone(levels)
	for i := range distances {
		distances[i] = math.Abs(distances[i] - middle)
	}
	noise := 1 / math.Sqrt(math.Exp(middle))
	return middle, max(robust*median(distances), coarse, noise/2)
}
