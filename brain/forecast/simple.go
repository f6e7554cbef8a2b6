package forecast

import "context"

// simple is a model that learns nothing: a function of the latest values.
type simple struct {
	// value returns a value, and the logarithm of what events multiplied it by.
	value func(data *Data, n, h int) (value, events float64)
}

func (*simple) fit(context.Context, *Data) error { return nil }

func (s *simple) predict(data *Data, n int, out []float64) error {
	for k := range out {
		value, events := s.value(data, n, k+1)
		out[k] = times(value, data.learnt(data.Time(n+k), n)-events)
	}
	return nil
}

// GobEncode saves nothing, for there is nothing to save.
func (*simple) GobEncode() ([]byte, error) { return nil, nil }

// GobDecode loads nothing.
func (*simple) GobDecode([]byte) error { return nil }

// lastValue is Naive.
func lastValue(data *Data, n, _ int) (value, events float64) {
	value, _ = data.latest(n)
	return value, data.learnt(data.Time(data.latestKnown(n)), n)
}

// sameTimeYesterday is SeasonalNaive; where yesterday is not known it is the last value.
func sameTimeYesterday(data *Data, n, h int) (value, events float64) {
	yesterday := data.season(n-1+h, n, data.Steps(Day))
	if v := data.at(yesterday, n); v >= 0 {
		return v, data.learnt(data.Time(yesterday), n)
	}
	return lastValue(data, n, h)
}

// recentMean is MovingAverage.
func recentMean(data *Data, n, _ int) (value, events float64) {
	return data.recent(n, baseSteps), data.recentLift(n)
}
