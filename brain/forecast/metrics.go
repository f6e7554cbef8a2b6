package forecast

import "math"

// Scores tell how good a model's forecasts for one number of steps ahead were.
type Scores struct {
	MAE               float64 `json:"mae"`
	SMAPE             float64 `json:"smape"`              // mean of 2|f-a|/(|f|+|a|), 0 when both are 0
	MASE              float64 `json:"mase"`               // MAE / MAE of the same time yesterday on the training part
	Skill             float64 `json:"skill"`              // 1 - MAE / MAE of the best baseline
	Within10          float64 `json:"within10"`           // share of forecasts within 10 % of the value
	Within20          float64 `json:"within20"`           // the same of 20 %
	Pinball           float64 `json:"pinball"`            // mean pinball loss of the 10, 50 and 90 % quantiles
	Coverage80        float64 `json:"coverage80"`         // share of values from the 10 to the 90 % quantile
	ConfidentShare    float64 `json:"confident_share"`    // share of forecasts whose confidence was at least 0.8
	ConfidentWithin10 float64 `json:"confident_within10"` // share of those within 10 %, 0 without any
	Calibration       float64 `json:"-"`                  // mean difference of confidence and outcome, by tenths of confidence
	FitSeconds        float64 `json:"fit_seconds"`        // of the longest fit
	PredictMS         float64 `json:"predict_ms"`         // mean time of a forecast of all steps
}

// confident is the confidence that is announced as such.
const confident = 0.8

// scorer sums what Scores are made of.
type scorer struct {
	count, errors, smape, within10, within20, pinball, covered, confident, confidentRight float64

	said, came, times [10]float64 // by tenths of confidence
}

// add counts one forecast and its value.
func (s *scorer) add(f Forecast, value float64) {
	distance := math.Abs(f.P50 - value)
	s.count++
	s.errors += distance
	if sum := f.P50 + value; sum > 0 {
		s.smape += 2 * distance / sum
	}
	s.within10 += flag(right(f.P50, value))
	s.within20 += flag(distance <= 0.2*value)
	s.pinball += (pinball(f.P10, value, 0.1) + pinball(f.P50, value, 0.5) + pinball(f.P90, value, 0.9)) / 3
	s.covered += flag(f.P10 <= value && value <= f.P90)
	if f.Confidence >= confident {
		s.confident++
		s.confidentRight += flag(right(f.P50, value))
	}
	tenth := min(int(f.Confidence*10), 9)
	s.said[tenth] += f.Confidence
	s.came[tenth] += flag(right(f.P50, value))
	s.times[tenth]++
}

// pinball is the loss that the q quantile makes least (Koenker and Bassett, Econometrica 1978).
func pinball(forecast, value, q float64) float64 {
	return max(q*(value-forecast), (q-1)*(value-forecast))
}

// scores returns the scores but for Skill and the times. yesterday is the mean error of the same time yesterday on the training part.
func (s *scorer) scores(yesterday float64) Scores {
	n := max(s.count, 1)
	scores := Scores{
		MAE: s.errors / n, SMAPE: s.smape / n, Within10: s.within10 / n, Within20: s.within20 / n,
		Pinball: s.pinball / n, Coverage80: s.covered / n, ConfidentShare: s.confident / n,
	}
	if yesterday > 0 {
		scores.MASE = scores.MAE / yesterday
	}
	if s.confident > 0 {
		scores.ConfidentWithin10 = s.confidentRight / s.confident
	}
	for i := range s.times {
		scores.Calibration += math.Abs(s.said[i]-s.came[i]) / n
	}
	return scores
}
