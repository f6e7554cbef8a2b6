package forecast

import "context"

// simple is a model that learns nothing: a function of the latest values.
type simple struct {
	value func(data *Data, n, h int) float64
}

func (*simple) fit(context.Context, *Data) error { return nil }

func (s *simple) predict(data *Data, n int, out []float64) error {
	for k := range out {
		out[k] = s.value(data, n, k+1)
	}
	return nil
}

// GobEncode saves nothing, for there is nothing to save.
func (*simple) GobEncode() ([]byte, error) { return nil, nil }

// GobDecode loads nothing.
func (*simple) GobDecode([]byte) error { return nil }

// lastValue is Naive.
func lastValue(data *Data, n, _ int) float64 {
	value, _ := data.latest(n)
	return value
}

// sameTimeYesterday is SeasonalNaive; where yesterday is not known it is the last value.
func sameTimeYesterday(data *Data, n, h int) float64 {
	if v := data.at(data.season(n-1+h, n, data.Steps(Day)), n); v >= 0 {
		return v
	}
	return lastValue(data, n, h)
}

// recentMean is MovingAverage.
func recentMean(data *Data, n, _ int) float64 { return data.recent(n, baseSteps) }
